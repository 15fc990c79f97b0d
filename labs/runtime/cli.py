"""The command line: parses options, runs an experiment's main, and sets the exit status."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar, cast, get_args, get_type_hints

from labs.runtime.commandline.docstrings import own_docstring
from labs.runtime.commandline.groups import without_values
from labs.runtime.commandline.help import asks_for_help, command_name, print_help
from labs.runtime.commandline.parsing import parse_known, unknown_option
from labs.runtime.directory.description import (
    own_program,
    plain_config,
    program_of,
    read_description,
    restore,
)
from labs.runtime.directory.identity import differences
from labs.runtime.directory.mirror import fetch_run, is_remote
from labs.runtime.directory.storage import is_full, reason
from labs.runtime.errors import InputError
from labs.runtime.loop import signals
from labs.runtime.loop.console import replace_unencodable_characters
from labs.runtime.options import NameOrPath, RuntimeOptions, expand_user

C = TypeVar("C")


def launch(
    main: Callable[[C], int],
    config_type: type[C],
    *,
    presets: Mapping[str, C] | None = None,
    grows: Collection[str] = (),
    arguments: Sequence[str] | None = None,
) -> None:
    """Parse the command line, run ``main`` and exit with its status. Never returns.

    Args:
        main: takes the config, returns the exit status.
        config_type: frozen dataclass whose fields are the options. With presets it has a field
            ``preset: str``; for runs that can be resumed, a field ``runtime: RuntimeOptions``.
        presets: configs by name; the first one is the default.
        grows: the options that span the grid. A resumed run may be given more values of them, and then
            runs the missing trials.
        arguments: the command line; None takes ``sys.argv``.

    Bad input (:class:`InputError`) prints one sentence on standard error and exits with 2. SIGINT,
    SIGTERM and SIGHUP end the run in an orderly way, with status 130, 143 or 129; a second signal ends
    it at once.
    """
    command = sys.argv
    if arguments is not None:  # the run's config.json holds the command line
        sys.argv = [command[0], *arguments]
    try:
        exit_with(lambda: main(parse(config_type, presets or {}, sys.argv[1:], grows)), config_type)
    finally:
        sys.argv = command


def exit_with(action: Callable[[], int], config_type: Any) -> NoReturn:
    """Run ``action`` and exit with the status that it returns, or with that of its error or signal.

    Args:
        action: what the command does.
        config_type: dataclass (or a union of some) whose fields are the options that errors name.
    """
    replace_unencodable_characters()
    try:
        with signals.handled():
            status = action()
    except InputError as error:
        print(f"error: {spell_options(str(error), config_type)}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        status = 130  # as for a process that SIGINT ends
    except BrokenPipeError:  # `--help | head`: the reader has exited
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141  # as for a process that SIGPIPE ends
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # which only a path of the user's can be
            print(f"error: {error.filename}: this path or name is too long", file=sys.stderr)
        elif is_full(error):
            print(
                f"error: {error.filename or 'a file'} cannot be written: {reason(error)}",
                file=sys.stderr,
            )
        else:
            raise
        status = 2
    sys.exit(signals.exit_status(status))


def spell_options(message: str, config_type: Any) -> str:
    """An error message with the names of fields replaced by those of command-line options.

    Errors name a field in backquotes, since the same error may be raised in Python:
    ```learning_rate` 0.0 must be positive``. Here that becomes ``--learning-rate 0.0 must be
    positive``, or ``--learning-rates`` if the option has the plural name.
    """
    options = _field_names(config_type)

    def option(match: re.Match[str]) -> str:
        name = match[1]
        found = next(
            (n for n in (name, f"{name}s", re.sub("y$", "ies", name)) if n in options), None
        )
        return match[0] if found is None else "--" + found.replace("_", "-")

    return re.sub(r"`([a-z_][a-z0-9_]*)`", option, message)


def _field_names(config_type: Any) -> set[str]:
    """Names of all fields of a dataclass (or a union of some) and of the dataclasses in it."""
    names: set[str] = set()
    if not isinstance(config_type, type):
        return names.union(*(_field_names(part) for part in get_args(config_type)))
    for name, hint in get_type_hints(config_type).items():
        names.add(name)
        for part in (hint, *get_args(hint)):  # a union of dataclasses is a choice of sub-commands
            if dataclasses.is_dataclass(part):
                names |= _field_names(cast(type, part))
    return names


def parse(
    config_type: type[C],
    presets: Mapping[str, C],
    arguments: Sequence[str],
    grows: Collection[str] = (),
) -> C:
    """The config that ``arguments`` describe, with absolute paths.

    With ``--resume DIR`` the options of that run are the defaults. Only those of ``grows`` may differ
    from them, since a run has one configuration.

    Raises:
        InputError: an unknown option, a value of the wrong type, an unknown preset, a directory without a
            run, or a config that differs from the run's.
        SystemExit: status 0, after ``--help``.
    """
    if _value_of("--rerun", arguments) is not None and not asks_for_help(arguments):
        return _repeat(config_type, arguments)
    if _value_of("--resume", arguments) is None or asks_for_help(arguments):
        return absolute_paths(_parse(config_type, presets, arguments, None))
    default, arguments = _options_of_run(config_type, "--resume", arguments)
    config = absolute_paths(_parse(config_type, {}, arguments, default))
    then, now = plain_config(default), plain_config(config)
    for key in grows:
        then.pop(key, None), now.pop(key, None)
    different = differences(then, now)
    if different:
        field, before, here = different[0]
        raise InputError(
            f"`{field}` is {here} here and {before} in the run that --resume continues: leave it"
            " out, or start a new run"
        )
    return config


def _repeat(config_type: type[C], arguments: Sequence[str]) -> C:
    """The config of a new run with another run's options, by default in the same directory of runs."""
    if _value_of("--preset", arguments) is not None:
        raise InputError("`preset` and `rerun` both set the options: use only one")
    default, arguments = _options_of_run(config_type, "--rerun", arguments)
    return absolute_paths(_parse(config_type, {}, arguments, default))


def _options_of_run(
    config_type: type[C], option: str, arguments: Sequence[str]
) -> tuple[C, list[str]]:
    """The config of the run that an option names, and the arguments with its local directory."""
    directory = _value_of(option, arguments) or ""
    field = option.removeprefix("--")
    kept: dict[str, Any] = dict.fromkeys(("run_name", "resume", "rerun"))
    if is_remote(directory):
        local, kept["run_root"] = fetch_run(directory, field=field)
    else:
        local = expand_user(directory).absolute()
    described = read_description(local)
    arguments = [str(local) if a == directory else a for a in arguments]
    arguments = [a.replace(f"{option}={directory}", f"{option}={local}") for a in arguments]
    runtime = restore(RuntimeOptions, {**described["runtime"], **kept})
    if option == "--rerun" and not is_remote(runtime.run_root):  # was relative to another directory
        runtime = dataclasses.replace(runtime, run_root=str(local.parent.parent))
    try:
        config = restore(config_type, described["config"])
    except InputError:
        program = program_of(described)
        if Path(program[-1]).name == Path(own_program()[-1]).name:
            raise  # the program has changed
        raise InputError(
            f"`{field}` {directory} is a run of {described['experiment']}, which has other options: use"
            f" the program that made it, {shlex.join(program)}"
        ) from None
    return dataclasses.replace(config, runtime=runtime), arguments  # type: ignore[type-var]  # a dataclass


def absolute_paths(config: C) -> C:
    """The same config with absolute paths, which mean the same in every working directory."""
    if not dataclasses.is_dataclass(config):
        return config
    hints = get_type_hints(type(config), include_extras=True)
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.init:
            changes[field.name] = _absolute(value, getattr(hints[field.name], "__metadata__", ()))
    same = all(changes[name] is getattr(config, name) for name in changes)
    return config if same else cast(C, dataclasses.replace(config, **changes))  # type: ignore[type-var]  # a dataclass


def _absolute(value: Any, marks: Sequence[Any]) -> Any:
    if isinstance(value, Path):
        return Path(os.path.abspath(expand_user(value)))
    if isinstance(value, tuple) and any(isinstance(part, Path) for part in value):
        return tuple(_absolute(part, ()) for part in value)
    if isinstance(value, str):
        known = next((mark for mark in marks if isinstance(mark, NameOrPath)), None)
        return value if known is None else known.absolute(value)
    return absolute_paths(value) if dataclasses.is_dataclass(value) else value


def _parse(
    config_type: type[C], presets: Mapping[str, C], arguments: Sequence[str], default: C | None
) -> C:
    if presets:
        name = _value_of("--preset", arguments) or next(iter(presets))
        if name not in presets:
            raise InputError(f"--preset {name} is unknown: use {' or '.join(presets)}")
        default = dataclasses.replace(presets[name], preset=name)  # type: ignore[type-var]  # a dataclass
    options: dict[str, Any] = {} if default is None else {"default": default}
    description = sys.modules["__main__"].__doc__ or own_docstring(config_type)
    if asks_for_help(arguments):
        print_help(
            config_type,
            default,
            program=command_name(),
            description=description,
            arguments=arguments,
        )
        sys.exit(0)
    config, unknown = parse_known(config_type, arguments, description=description, **options)
    if unknown:
        raise unknown_option(unknown[0], _field_names(config_type))
    if empty := without_values(config_type, arguments):
        raise InputError(f"{empty} needs a value")
    return cast(C, config)


def _value_of(option: str, arguments: Sequence[str]) -> str | None:
    """The value of ``--option value`` or ``--option=value``; None if the option is not given."""
    for position, argument in enumerate(arguments):
        if argument == option and position + 1 < len(arguments):
            return arguments[position + 1]
        if argument.startswith(option + "="):
            return argument.split("=", 1)[1]
    return None
