"""What ``--help`` prints: options in groups, types that a person reads, defaults as values.

``--help`` fits two screens: what the program is, its own options, and the names of those that every
experiment has. ``--help-all`` has the program's whole description, and every option in full.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import tyro

from labs.runtime.field_options import field_docstrings, metavar_of, spelled
from labs.runtime.options import RuntimeOptions

HELP = ("-h", "--help", "--help-all")
MAX_WIDTH = 100
_COLUMN = 26
"""Where the texts begin."""

_POSITIONAL, _FIXED = tyro.conf.Positional, tyro.conf.Fixed


@dataclass(frozen=True)
class Option:
    """One option as it is printed."""

    spelling: str
    """``--learning-rate``, ``--augment, --no-augment``; an operand's name."""

    takes: str
    """``FLOAT [FLOAT ...]``; nothing for a flag."""

    text: str
    """What it does, with its default."""


@dataclass(frozen=True)
class Group:
    """Options that belong together."""

    title: str
    options: Sequence[Option]
    common: bool = False
    """Whether every experiment has them."""


def command_name() -> str:
    """The program as it was called."""
    return f"python {sys.argv[0]}" if sys.argv[0].endswith(".py") else Path(sys.argv[0]).name


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Whether a command line wants the help, whatever else it says."""
    return any(argument in HELP for argument in arguments)


def print_help(
    config_type: Any,
    default: Any = None,
    *,
    program: str,
    description: str,
    everything: bool = False,
) -> None:
    """Print a command's help.

    Args:
        config_type: frozen dataclass of the options.
        default: an instance that holds the defaults; ``None`` takes those of the fields. Its method
            ``shown_defaults``, where it has one, gives texts for fields that are ``None``, by name:
            what a preset decides.
        program: as it is called.
        description: Markdown, such as a docstring: paragraphs and indented examples.
        everything: the whole description, and every option in full.
    """
    groups = list(_groups(config_type, default, "options"))
    width = min(shutil.get_terminal_size().columns, MAX_WIDTH)
    operands = [o.takes for g in groups for o in g.options if not o.spelling.startswith("-")]
    print(" ".join(["usage:", program, *operands, "[options]"]), end="\n\n")
    for block in _blocks(description, everything):
        print(_filled(block, width), end="\n\n")
    for group in groups:
        print(_bold(f"{group.title}:"))
        if group.common and not everything:
            print(_named(group, width))
        else:
            for option in group.options:
                _print_option(option, width)
        print()
    if not everything:
        print("--help-all describes every option.")


def _blocks(description: str, everything: bool) -> list[str]:
    """The paragraphs: all of them, or the first and the first examples."""
    blocks = [b for b in inspect.cleandoc(description).split("\n\n") if b.strip()]
    if everything or not blocks:
        return blocks
    examples = [block for block in blocks[1:] if block.startswith("    ")]
    return [blocks[0], *examples[:1]]


def _filled(block: str, width: int) -> str:
    if block.startswith("    "):
        return "\n".join(line.removeprefix("  ") for line in block.splitlines())
    return textwrap.fill(" ".join(block.split()), width)


def _named(group: Group, width: int) -> str:
    names = [" ".join([option.spelling.split(",")[0], option.takes]) for option in group.options]
    parts = [name.strip().replace(" ", "\0") for name in names]  # an option stays on one line
    filled = textwrap.fill(
        ", ".join(parts), width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
    )
    return filled.replace("\0", " ")


def _print_option(option: Option, width: int) -> None:
    takes = f" {option.takes}" if option.takes and option.spelling.startswith("-") else ""
    lines = textwrap.wrap(option.text, max(20, width - _COLUMN))
    head, room = f"  {_bold(option.spelling)}{takes}", _COLUMN - 2
    room -= len(option.spelling) + len(takes)
    if room >= 2 and lines:
        head += " " * room + lines.pop(0)
    print(head)
    for line in lines:
        print(" " * _COLUMN + line)


def _bold(text: str) -> str:
    """On a terminal that takes it."""
    plain = (
        not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    )
    return text if plain else f"\033[1m{text}\033[0m"


def _groups(config_type: Any, default: Any, title: str) -> Iterator[Group]:
    """The options of a dataclass, then those of the dataclasses in it."""
    decided = default.shown_defaults() if hasattr(default, "shown_defaults") else {}
    hints = get_type_hints(config_type, include_extras=True)
    texts = field_docstrings(config_type)
    own: list[Option] = []
    parts: list[tuple[str, Any, Any]] = []
    for field in dataclasses.fields(config_type):
        value = _default(field, default)
        hint, marks = _unwrapped(hints[field.name])
        if not field.init or _FIXED in marks:
            continue
        if dataclasses.is_dataclass(hint):
            parts.append((field.name, hint, value))
        else:
            shown = decided.get(field.name, "") if value is None else _shown(value)
            text = texts.get(field.name, "")
            own.append(_option(field.name, hint, marks, text, shown))
    if own:
        yield Group(title, own, common=config_type is RuntimeOptions)
    for name, hint, value in parts:
        heading = "where and how it runs" if hint is RuntimeOptions else f"{name} options"
        yield from _groups(hint, value, heading.replace("_", " "))


def _default(field: dataclasses.Field[Any], default: Any) -> Any:
    if default is not None:
        return getattr(default, field.name)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _unwrapped(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    marks = getattr(hint, "__metadata__", ())
    return (hint.__origin__, marks) if marks else (hint, ())


def _option(name: str, hint: Any, marks: Sequence[Any], text: str, shown: str) -> Option:
    settings: Mapping[str, Any] = next(
        (vars(m) for m in marks if hasattr(m, "metavar") and hasattr(m, "aliases")), {}
    )
    takes = settings.get("metavar") or metavar_of(hint)
    spelling = f"--{name.replace('_', '-')}"
    if hint is bool:
        spelling, takes = f"{spelling}, --no-{name.replace('_', '-')}", ""
    if _POSITIONAL in marks:
        spelling, takes = takes, takes
    text = " ".join((settings.get("help") or text).split())
    return Option(spelling, takes, f"{text} (default: {shown})" if shown else text)


def _shown(value: Any) -> str:
    """A default as it would be typed; nothing where there is none to show."""
    if value is dataclasses.MISSING or value == ():
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(spelled(part) for part in value)
    return spelled(value)
