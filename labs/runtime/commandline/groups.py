"""The options (in groups) and sub-commands of a command line, as its help shows them."""

from __future__ import annotations

import dataclasses
import itertools
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

import tyro

from labs.runtime.commandline.docstrings import field_docstrings
from labs.runtime.commandline.values import metavar_of, spelled
from labs.runtime.field_options import GROUP
from labs.runtime.options import RuntimeOptions

_POSITIONAL, _FIXED = tyro.conf.Positional, tyro.conf.Fixed


@dataclass(frozen=True)
class Option:
    """One option as it is printed."""

    spelling: str
    """``--learning-rate``, ``--augment, --no-augment``; an operand's name."""

    takes: str
    """``FLOAT [FLOAT ...]``; empty for a flag."""

    text: str
    """What it does."""

    default: str = ""
    """The default as it would be typed, ``yes`` or ``no`` for a flag; empty if there is none to show."""

    aliases: Sequence[str] = ()
    """Other spellings."""

    @property
    def example(self) -> str:
        """``--learning-rate 0.001``, ``--[no-]augment``; without a default ``--samples INT``."""
        name = self.spelling.split(",")[0]
        if "--no-" in self.spelling:
            return name.replace("--", "--[no-]")
        return f"{name} {self.default or self.takes}".strip() if name.startswith("-") else name


@dataclass(frozen=True)
class Group:
    """Options that belong together."""

    title: str
    options: Sequence[Option]
    common: bool = False
    """Whether every experiment has them."""


def subcommands(command: Any) -> Mapping[str, type]:
    """The sub-commands of a union of dataclasses, or of a dataclass that has such a union as its only field.

    Of another type there are none.
    """
    if dataclasses.is_dataclass(command) and len(dataclasses.fields(command)) == 1:
        (hint,) = get_type_hints(command, include_extras=True).values()
        command = _unwrapped(hint)[0]
    found: dict[str, type] = {}
    if get_origin(command) not in (Union, types.UnionType):
        return found
    for part in get_args(command):
        kind, marks = _unwrapped(part)
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            return {}
        names = [mark.name for mark in marks if getattr(mark, "name", None)]
        found[names[0] if names else kind.__name__.lower()] = kind
    return found


def without_values(config_type: Any, arguments: Sequence[str]) -> str | None:
    """The first option that takes one or more values and is given without any; None if there is none."""
    commands = subcommands(config_type)
    kind = next((commands[word] for word in arguments if word in commands), config_type)
    groups = () if commands and kind is config_type else groups_of(kind, None, "")
    several = {
        name
        for group in groups
        for option in group.options
        if option.takes.endswith(("...", "...]")) and not option.takes.startswith("[")
        for name in (option.spelling, *option.aliases)
    }
    for argument, following in itertools.pairwise([*arguments, "--"]):
        if argument.replace("_", "-") in several and following.startswith("--"):
            return argument
    return None


def groups_of(config_type: Any, default: Any, title: str) -> Iterator[Group]:
    """The options of a dataclass, then those of the dataclasses in it."""
    decided = default.shown_defaults() if hasattr(default, "shown_defaults") else {}
    hints = get_type_hints(config_type, include_extras=True)
    texts = field_docstrings(config_type)
    own: dict[str, list[Option]] = {}
    parts: list[tuple[str, Any, Any]] = []
    for field in dataclasses.fields(config_type):
        value = _default(field, default)
        hint, marks = _unwrapped(hints[field.name])
        if not field.init or _FIXED in marks:
            continue
        if dataclasses.is_dataclass(hint):
            parts.append((field.name, hint, value))
        else:
            option = _option(field.name, hint, marks, texts.get(field.name, ""))
            shown = decided.get(field.name, "") if value is None else _shown(value)
            if value is None and " " in shown and any(map(str.isalpha, shown)):
                shown, text = "", f"{option.text} (default: {shown})"  # words, nothing to type
                option = dataclasses.replace(option, text=text)
            option = dataclasses.replace(option, default=shown)
            if _POSITIONAL in marks and value is not dataclasses.MISSING:
                operand = _optional(option.takes)
                option = dataclasses.replace(option, spelling=operand, takes=operand)
            own.setdefault(field.metadata.get(GROUP) or title, []).append(option)
    for name, options in own.items():
        yield Group(name, options, common=config_type is RuntimeOptions)
    for name, hint, value in parts:
        heading = "where and how it runs" if hint is RuntimeOptions else f"{name} options"
        yield from groups_of(hint, value, heading.replace("_", " "))


def _default(field: dataclasses.Field[Any], default: Any) -> Any:
    if default is not None:
        return getattr(default, field.name)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _unwrapped(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    marks = getattr(hint, "__metadata__", ())
    return (hint.__origin__, marks) if marks else (hint, ())


def _option(name: str, hint: Any, marks: Sequence[Any], text: str) -> Option:
    settings: Mapping[str, Any] = next(
        (vars(m) for m in marks if hasattr(m, "metavar") and hasattr(m, "aliases")), {}
    )
    takes = settings.get("metavar") or metavar_of(hint)
    spelling = f"--{(settings.get('name') or name).replace('_', '-')}"
    if hint is bool:
        spelling, takes = f"{spelling}, --no-{name.replace('_', '-')}", ""
    if _POSITIONAL in marks:
        spelling, takes = takes, takes
    text = " ".join((settings.get("help") or text).split())
    return Option(spelling, takes, text, aliases=settings.get("aliases") or ())


def _optional(operand: str) -> str:
    """An operand that may be left out, in brackets."""
    return (
        operand
        if operand.startswith("[")
        else f"[{operand.split(' ')[0]}{' ...' * (' ' in operand)}]"
    )


def _shown(value: Any) -> str:
    """A default as it would be typed; empty if there is none to show."""
    if value is dataclasses.MISSING or value == ():
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(spelled(part) for part in value)
    return spelled(value)
