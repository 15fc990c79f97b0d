"""Parsing a command line with tyro, whose errors become one sentence as all others are."""

from __future__ import annotations

import ast
import contextlib
import difflib
import io
import itertools
import re
import sys
from collections.abc import Collection, Sequence
from typing import Any

import tyro

from labs.runtime.errors import InputError

_RULE = re.compile(r"[─╭╮╰╯+-]*")
"""What remains of an empty line or a rule; tyro draws with ASCII where standard output is not UTF-8."""

_VALUE = re.compile(
    r"Error parsing (\S+): (?:no type matching .* could be instantiated from"
    r"|Could not find valid parse for arguments:) (\[.*\])"
)
_NO_VALUE = re.compile(r"Missing value for argument '([^']*)'")
_CHOICE = re.compile(r"invalid choice '(.*)' for argument '([^']*)'\. Expected one of \((.*)\)")
_COMMAND = re.compile(r"Expected one of \{(.*)\}")


def parse_known(
    config_type: Any, arguments: Sequence[str], **options: Any
) -> tuple[Any, list[str]]:
    """``tyro.cli`` with ``options``; the config and the arguments that are none of its options.

    Raises:
        InputError: an option has no value, or one of the wrong type.
    """
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            config, unknown = tyro.cli(
                config_type, args=list(arguments), return_unknown_args=True, **options
            )
    except SystemExit as end:
        if end.code != 2:
            raise
        raise InputError(_sentence(told.getvalue(), arguments)) from None
    sys.stderr.write(told.getvalue())
    return config, unknown


def unknown_option(argument: str, names: Collection[str]) -> InputError:
    """The error for an argument that is no option, with the option that was probably meant.

    Args:
        argument: as it was given: ``--widht=3``.
        names: the names of all fields.
    """
    option = argument.partition("=")[0].replace("_", "-")
    options = sorted("--" + name.replace("_", "-") for name in names)
    return InputError(
        f"{argument} is not an option: {_meant(option, options)}--help shows the options"
    )


def _meant(word: str, words: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, words, 1)
    return f"did you mean {close[0]}? " if close else ""


def _sentence(box: str, arguments: Sequence[str]) -> str:
    """What a box of tyro says, up to its first empty line or rule; its title is left out."""
    lines = [line.strip("│| ") for line in box.strip().splitlines()[1:]]
    kept = itertools.dropwhile(_RULE.fullmatch, lines)
    said = list(itertools.takewhile(lambda line: not _RULE.fullmatch(line), kept))
    text = " ".join(said).rstrip(".")
    if text.startswith("Missing from "):
        missing = [line.split()[0] for line in said if re.match("--[a-z]|[A-Z]+$", line)]
        return f"no value for {', '.join(missing) or 'a required option'}: --help shows the options"
    if found := _COMMAND.fullmatch(text):
        commands = found[1].split(", ")
        meant = _meant(arguments[0], commands) if arguments else ""
        return f"{arguments[0]} is not a command: {meant}use {', '.join(commands)}"
    if found := _NO_VALUE.match(text):
        return f"{found[1]} needs a value"
    if found := _CHOICE.match(text):
        given, option, choices = found.groups()
        named = " or ".join(re.findall(r"'(.*?)'", choices))
        return f"{option} {given} is not valid: use {named}"
    if found := _VALUE.fullmatch(text):
        option = next(
            (name for name in found[1].split("/") if _is_given(name, arguments)), found[1]
        )
        values = " ".join(ast.literal_eval(found[2]))
        takes = _what_it_takes(box.partition("Argument helptext:")[2])
        return f"{option} {values} is not valid" + (f": it takes {takes}" if takes else "")
    return text


def _is_given(option: str, arguments: Sequence[str]) -> bool:
    return any(argument.partition("=")[0] == option for argument in arguments)


def _what_it_takes(helptext: str) -> str:
    """The type of an option's values in words; empty if they are no numbers."""
    found = re.search(r"\b(INT|FLOAT)\b( \[\1 \.\.\.\])?", helptext)
    if found is None:
        return ""
    kind = "whole number" if found[1] == "INT" else "number"
    return f"{kind}s" if found[2] else f"a {kind}"
