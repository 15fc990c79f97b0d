"""Parsing a command line with tyro, whose errors become one sentence as all others are."""

from __future__ import annotations

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
    r"Error parsing (\S+): no type matching (?:\{None\}\|)?(\S+) .* from \['(.*)'\]"
)


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
        raise InputError(_sentence(told.getvalue())) from None
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
    close = difflib.get_close_matches(option, options, 1)
    meant = f"did you mean {close[0]}? " if close else ""
    return InputError(f"{argument} is not an option: {meant}--help shows the options")


def _sentence(box: str) -> str:
    """What a box of tyro says, up to its first empty line or rule; its title is left out."""
    lines = [line.strip("│| ") for line in box.strip().splitlines()[1:]]
    kept = itertools.dropwhile(_RULE.fullmatch, lines)
    said = list(itertools.takewhile(lambda line: not _RULE.fullmatch(line), kept))
    text = " ".join(said).rstrip(".")
    if text.startswith("Missing from "):
        missing = [line.split()[0] for line in said if re.match("--[a-z]", line)]
        return f"no value for {', '.join(missing) or 'a required option'}: --help shows the options"
    found = _VALUE.fullmatch(text)
    return text if found is None else f"{found[1]} {found[3]} is not valid: it takes {found[2]}"
