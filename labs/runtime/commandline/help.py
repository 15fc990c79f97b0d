"""What ``--help`` prints: options in groups, readable types, defaults as values.

``--help`` fits two screens: what the program is, its own options, and the names of those that every
experiment has. ``--help-all`` has the program's whole description, and every option in full.
"""

from __future__ import annotations

import inspect
import os
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labs.runtime.commandline.docstrings import own_docstring, summary
from labs.runtime.commandline.groups import Group, Option, groups_of, subcommands

HELP = ("-h", "--help", "--help-all")
MAX_WIDTH = 100
_COLUMN = 26
"""Column in which the descriptions begin."""

TWO_SCREENS = 100
"""Largest number of lines of ``--help``."""


def command_name() -> str:
    """The program as it was called."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.origin == os.path.abspath(sys.argv[0]):
        return f"python -m {spec.name.removesuffix('.__main__')}"
    return f"python {sys.argv[0]}" if sys.argv[0].endswith(".py") else Path(sys.argv[0]).name


def asks_for_help(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for the help, whatever else it contains."""
    return any(argument in HELP for argument in arguments)


def print_help(
    config_type: Any,
    default: Any = None,
    *,
    program: str,
    description: str,
    arguments: Sequence[str] = (),
) -> None:
    """Print a command's help.

    Args:
        config_type: frozen dataclass of the options, or sub-commands (see ``subcommands``).
        default: an instance that holds the defaults; ``None`` takes those of the fields. Its method
            ``shown_defaults``, where it has one, gives texts for fields that are ``None``, by name:
            what a preset decides.
        program: as it is called.
        description: Markdown, such as a docstring: paragraphs and indented examples.
        arguments: the command line. ``--help-all`` shows the whole description, and every option in
            full; a sub-command has a help of its own.
    """
    width = min(shutil.get_terminal_size().columns, MAX_WIDTH)
    commands = subcommands(config_type)
    chosen = next((word for word in arguments if word in commands), None)
    if commands and chosen is None:
        print("\n".join(_commands(commands, program, description, width)))
        return
    if chosen is not None:
        config_type = commands[chosen]
        program, description = f"{program} {chosen}", own_docstring(config_type)
    everything = "--help-all" in arguments
    groups = list(groups_of(config_type, default, "options"))
    operands = [o.takes for g in groups for o in g.options if not o.spelling.startswith("-")]
    head = [" ".join(["usage:", program, *operands, "[options]"]), ""]
    head += _description(description, width, whole=everything or chosen is not None)
    if note := getattr(config_type, "help_note", ""):
        head += [*_filled(note, width), ""]
    named = [group for group in groups if group.common and not everything]
    lines = [*head, *_options(groups, named, width)]
    while not everything and len(lines) > TWO_SCREENS:
        described = [group for group in groups[1:] if group not in named]
        if not described:
            break
        named.append(described[-1])
        lines = [*head, *_options(groups, named, width)]
    print("\n".join(lines))


def _commands(
    commands: Mapping[str, type], program: str, description: str, width: int
) -> list[str]:
    lines = [f"usage: {program} COMMAND [options]", ""]
    lines += [*_description(description, width, whole=True), _bold("commands:")]
    for name, kind in commands.items():
        lines += _described(Option(name, "", summary(kind)), width)
    return [*lines, "", f"{program} COMMAND --help describes the options of one."]


def _description(description: str, width: int, whole: bool) -> list[str]:
    """All paragraphs, or only the first one and the first examples."""
    blocks = [b for b in inspect.cleandoc(description).split("\n\n") if b.strip()]
    if not whole:
        examples = [block for block in blocks[1:] if block.startswith("    ")]
        blocks = [*blocks[:1], *examples[:1]]
    return [line for block in blocks for line in (*_filled(block, width), "")]


def _filled(block: str, width: int) -> list[str]:
    if block.startswith("    "):
        return [line.removeprefix("  ") for line in block.splitlines()]
    return textwrap.wrap(" ".join(block.split()), width)


def _options(groups: Sequence[Group], named: Sequence[Group], width: int) -> list[str]:
    """The options by group; some groups are only named."""
    lines: list[str] = []
    for group in groups:
        lines.append(_bold(f"{group.title}:"))
        if group in named:
            lines += _named(group, width)
        else:
            lines += [line for option in group.options for line in _described(option, width)]
        lines.append("")
    return [*lines, "--help-all describes every option."] if named else lines[:-1]


def _named(group: Group, width: int) -> list[str]:
    names = [" ".join([option.spelling.split(",")[0], option.takes]) for option in group.options]
    parts = [name.strip().replace(" ", "\0") for name in names]  # an option stays on one line
    filled = textwrap.wrap(
        ", ".join(parts), width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
    )
    return [line.replace("\0", " ") for line in filled]


def _described(option: Option, width: int) -> list[str]:
    takes = f" {option.takes}" if option.takes and option.spelling.startswith("-") else ""
    texts = textwrap.wrap(option.text, max(20, width - _COLUMN))
    head, room = f"  {_bold(option.spelling)}{takes}", _COLUMN - 2
    room -= len(option.spelling) + len(takes)
    if room >= 2 and texts:
        head += " " * room + texts.pop(0)
    return [head, *(" " * _COLUMN + text for text in texts)]


def _bold(text: str) -> str:
    """Bold text, on a terminal that supports it."""
    plain = (
        not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    )
    return text if plain else f"\033[1m{text}\033[0m"
