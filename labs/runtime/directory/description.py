"""``config.json``: a run's options, its trials, and how to run it again. Does not depend on Ray."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import enum
import importlib.metadata
import inspect
import json
import os
import platform
import shlex
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from labs.runtime.directory.identity import TrialRecord, plain
from labs.runtime.errors import InputError
from labs.runtime.machine.commits import code_versions
from labs.runtime.options import expand_user

CONFIG_FILE = "config.json"
FORMAT = 2

_CONTENT = {
    "experiment": str,
    "config": dict,
    "runtime": dict,
    "git": dict,
    "versions": dict,
    "data": dict,
    "trials": list,
}
"""The parts of ``config.json`` that no run of this format can do without."""

T = TypeVar("T")


def describe_run(
    experiment: str,
    config: Any,
    runtime: Any,
    trials: Sequence[TrialRecord],
    data: Mapping[str, str],
) -> dict[str, Any]:
    """The content of a new run's ``config.json``.

    Args:
        experiment: name of the experiment.
        config: its dataclass.
        runtime: the runtime options.
        trials: the trials of the run; a resumed run may add more.
        data: fingerprints of the arguments that all trials share, by name.
    """
    return {
        "format": FORMAT,
        "experiment": experiment,
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "arguments": sys.argv[1:],
        "program": own_program(),
        "directory": os.getcwd(),
        "about": inspect.cleandoc(sys.modules["__main__"].__doc__ or "").split("\n\n")[0],
        "config": plain_config(config),
        "runtime": plain(runtime),
        "git": code_versions(),
        "versions": package_versions(),
        "data": dict(data),
        "trials": [dataclasses.asdict(trial) for trial in trials],
    }


def extended(
    described: Mapping[str, Any], config: Any, trials: Sequence[TrialRecord]
) -> dict[str, Any]:
    """The ``config.json`` of a run that is resumed: its present options and trials, and a new session."""
    session = {
        "began": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "git": code_versions(),
        "versions": package_versions(),
        "trials": len(trials),
    }
    return {
        **described,
        "config": plain_config(config),
        "trials": [dataclasses.asdict(trial) for trial in trials],
        "resumed": [*described.get("resumed", []), session],
    }


def read_description(directory: str | Path) -> dict[str, Any]:
    """The ``config.json`` of a run.

    Raises:
        InputError: the directory is not that of a run, or the run has another format.
    """
    path = expand_user(directory) / CONFIG_FILE
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        described = None
    if not path.parent.is_dir():
        raise InputError(f"there is no run {directory}: labs list shows the runs")
    if not is_description(described):
        raise InputError(f"{directory} is not a run directory: it has no readable {CONFIG_FILE}")
    found = described.get("format", 1)
    if found != FORMAT:
        raise InputError(
            f"{directory} is a run of format {found}, which this version (format {FORMAT}) cannot"
            " continue: use the version that made it, or start a new run"
        )
    return described


def is_description(content: Any) -> bool:
    """Whether the content of a file is that of a ``config.json``; of another format, as far as is known."""
    if not isinstance(content, dict) or not content.keys() >= {"config", "runtime"}:
        return False
    whole = all(isinstance(content.get(name), kind) for name, kind in _CONTENT.items())
    return whole or content.get("format", 1) != FORMAT


def recorded_trials(described: Mapping[str, Any]) -> list[TrialRecord]:
    """The trials of a run, in the order of their numbers."""
    return [TrialRecord(**trial) for trial in described["trials"]]


def plain_config(config: Any) -> dict[str, Any]:
    """An experiment's config as JSON values, without the runtime options."""
    fields = [field.name for field in dataclasses.fields(config) if field.name != "runtime"]
    return {name: plain(getattr(config, name), name) for name in fields}


def restore(kind: type[T], values: Mapping[str, Any]) -> T:
    """A dataclass from its JSON values; fields that are missing get their defaults.

    Raises:
        InputError: a value that the field cannot have, because the code has changed.
    """
    hints = get_type_hints(kind)
    restored = {}
    for name in (f.name for f in dataclasses.fields(cast(Any, kind)) if f.init):
        if name in values:
            try:
                restored[name] = _restore(hints[name], values[name])
            except (TypeError, ValueError):
                raise InputError(
                    f"`{name}` of the run is {values[name]!r}, which this code does not take: use the"
                    " code that the run started with, or start a new run"
                ) from None
    return kind(**restored)


def _restore(hint: Any, value: Any) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if value is None or hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _restore_one_of([a for a in arguments if a is not type(None)], value)
    if dataclasses.is_dataclass(hint):
        return restore(cast(type, hint), value)
    if origin is tuple:
        if not isinstance(value, list):  # of a run from when the option took one value
            value = [value]
        parts = [arguments[0]] * len(value) if arguments[1:] == (...,) else arguments
        return tuple(_restore(part, v) for part, v in zip(parts, value, strict=True))
    if origin is list:
        return [_restore(arguments[0], part) for part in value]
    if origin is None and isinstance(hint, type) and issubclass(hint, (Path, enum.Enum, float)):
        return hint(value)
    if hint in (int, str, bool) and not isinstance(value, hint):
        raise TypeError
    return value


def _restore_one_of(choices: list[Any], value: Any) -> Any:
    """The value as the first of several types that takes it."""
    if isinstance(value, dict):  # of several dataclasses, the one with most of these fields
        choices.sort(key=lambda choice: -len(set(value) & _names(choice)))
    for choice in choices[:-1]:
        with contextlib.suppress(TypeError, ValueError):
            return _restore(choice, value)
    return _restore(choices[-1], value)


def _names(kind: Any) -> set[str]:
    is_config = dataclasses.is_dataclass(kind)
    return {f.name for f in dataclasses.fields(kind)} if is_config else set()


def resume_command(directory: Path) -> str:
    """The command that resumes a run, quoted for a shell."""
    original = list(sys.orig_argv)
    options = sys.argv[1:]
    if options == original[len(original) - len(options) :]:
        start = original[: len(original) - len(options)]
    else:  # main() was called from another program
        start = ["python", sys.argv[0]]
    return shlex.join([*start, "--resume", str(directory)])


def command_of(described: Mapping[str, Any], *options: str) -> str:
    """A command that starts a run's program with other options, quoted for a shell."""
    return shlex.join(["python", *program_of(described), *options])


def program_of(described: Mapping[str, Any]) -> list[str]:
    """The part of a run's command line between ``python`` and the options."""
    program = described.get("program")  # missing in runs made before the release of 0.2.0
    return list(program) if program else shlex.split(described["command"])[:1]


def own_program() -> list[str]:
    """The script as an absolute path, or ``-m`` and the module's name."""
    script = os.path.abspath(sys.argv[0])
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.origin == script:  # under a debugger it is the debugger's module
        return ["-m", spec.name.removesuffix(".__main__")]
    return [script]


def package_versions() -> dict[str, str]:
    """The versions of Python, torch and Ray."""
    installed = {name: importlib.metadata.version(name) for name in ("torch", "ray")}
    return {"python": platform.python_version(), **installed}


def version_changes(then: Mapping[str, str]) -> str | None:
    """A sentence if the versions differ from ``then``, otherwise None."""
    now = package_versions()
    parts = [
        f"{name} {now[name]} (then {then[name]})" for name in then if then[name] != now.get(name)
    ]
    return f"the versions differ: {', '.join(parts)}" if parts else None
