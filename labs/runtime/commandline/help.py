"""What ``--help`` prints: options in groups, readable types, defaults as values.

``--help`` fits a screen: what the program is, its own options, and the names of those that every
experiment has. ``--help-all`` has the program's whole description, and every option in full.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from labs.runtime.commandline.docstrings import own_docstring, summary
from labs.runtime.commandline.groups import Group, groups_of, subcommands

HELP = ("-h", "--help", "--help-all")
MAX_WIDTH = 100
_COLUMN = 26
"""Column in which the descriptions begin."""

_BRIEF_COLUMN = 36
"""The same where each option has one line."""

_FOOTER = "The values are defaults. --help-all describes every option."

SCREEN = 50
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
    whole = "--help-all" in arguments
    groups = list(groups_of(config_type, default, "options"))
    operands = [o.takes for g in groups for o in g.options if not o.spelling.startswith("-")]
    head = [" ".join(["usage:", program, *operands, "[options]"]), ""]
    head += _description(description, width, whole or chosen is not None)
    if note := getattr(config_type, "help_note", ""):
        head += [*_filled(note, width), ""]
    room = SCREEN - len(head)
    lines = _laid_out(groups, groups, _in_full, width) if whole else _fitted(groups, width, room)
    print("\n".join([*head, *lines]))


def _commands(
    commands: Mapping[str, type], program: str, description: str, width: int
) -> list[str]:
    lines = [f"usage: {program} COMMAND [options]", ""]
    lines += [*_description(description, width, whole=True), _bold("commands:")]
    for name, kind in commands.items():
        lines += _entry(name, "", summary(kind), width)
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


def _fitted(groups: Sequence[Group], width: int, room: int) -> list[str]:
    """As much about each option as there is room for.

    That is everything; or a line for each option; or a line for each option of the first groups. Of
    the other groups, and of what every experiment has, there are only the names and defaults.
    """
    own = [group for group in groups if not group.common]
    lines = [*_laid_out(groups, own, _in_full, width), *_footer(len(own) < len(groups))]
    count = len(own)
    while len(lines) > room and count:
        lines = [*_laid_out(groups, own[:count], _in_lines, width), *_footer(True)]
        count -= 1
    return lines


def _footer(short: bool) -> list[str]:
    return ["", _FOOTER] if short else []


def _laid_out(
    groups: Sequence[Group],
    described: Sequence[Group],
    describe: Callable[[Group, int], list[str]],
    width: int,
) -> list[str]:
    """The options by group; some groups are described, the others named."""
    lines: list[str] = []
    for group in groups:
        options = describe(group, width) if group in described else _in_names(group, width)
        lines += [_bold(f"{group.title}:"), *options, ""]
    return lines[:-1]


def _in_full(group: Group, width: int) -> list[str]:
    lines: list[str] = []
    for option in group.options:
        shown = f" (default: {option.default})" if option.default else ""
        takes = f" {option.takes}" if option.takes and option.spelling.startswith("-") else ""
        lines += _entry(option.spelling, takes, option.text + shown, width)
    return lines


def _entry(name: str, takes: str, text: str, width: int) -> list[str]:
    """A name and, beside or below it, what it is."""
    texts = textwrap.wrap(text, max(20, width - _COLUMN))
    head, room = f"  {_bold(name)}{takes}", _COLUMN - 2 - len(name) - len(takes)
    if room >= 2 and texts:
        head += " " * room + texts.pop(0)
    return [head, *(" " * _COLUMN + text for text in texts)]


def _in_lines(group: Group, width: int) -> list[str]:
    """A line for each option: how it is typed, with its default, and the beginning of its text."""
    lines = []
    for option in group.options:
        name, space, value = option.example.partition(" ")
        room = max(10, width - _BRIEF_COLUMN - len(name))
        typed = f"{space}{textwrap.shorten(value, room, placeholder=' ...')}"
        typed += " " * max(2, _BRIEF_COLUMN - 2 - len(name) - len(typed))
        room = max(10, width - 2 - len(name) - len(typed))
        lines.append(f"  {_bold(name)}{typed}{_beginning(option.text, room)}".rstrip())
    return lines


def _beginning(text: str, room: int) -> str:
    """The longest beginning that fits: whole sentences, or else whole clauses and dots."""
    whole = text.removesuffix(".")
    if len(whole) <= room:
        return whole
    for end, more in ((r"[.;](?= )", ""), (r"(?<=[:,])(?= )|(?= \()", " ...")):
        places = [match.start() for match in re.finditer(end, whole)]
        starts = [whole[:place] for place in places if place + len(more) <= room]
        if complete := [start for start in starts if start.count("(") == start.count(")")]:
            return complete[-1] + more
    return textwrap.shorten(whole, room, placeholder=" ...")


def _in_names(group: Group, width: int) -> list[str]:
    parts = [option.example.replace(" ", "\0") for option in group.options]  # each on one line
    filled = textwrap.wrap(
        ", ".join(parts), width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False
    )
    return [line.replace("\0", " ") for line in filled]


def _bold(text: str) -> str:
    """Bold text, on a terminal that supports it."""
    plain = (
        not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    )
    return text if plain else f"\033[1m{text}\033[0m"
