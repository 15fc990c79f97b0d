"""The command line of ``labs list``, ``labs show`` and the other sub-commands."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import tyro

from labs.commands.compare import Compare
from labs.commands.listing import List
from labs.commands.report import Report
from labs.commands.rerun import Rerun
from labs.commands.show import Show
from labs.commands.submit import Fetch, Submit, split
from labs.runtime.cli import exit_with
from labs.runtime.commandline.help import asks_for_help, print_help
from labs.runtime.commandline.parsing import parse_known
from labs.runtime.errors import InputError

Command = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Rerun, tyro.conf.subcommand("rerun")]
    | Annotated[Submit, tyro.conf.subcommand("submit")]
    | Annotated[Fetch, tyro.conf.subcommand("fetch")]
)


_DESCRIPTION = "List, show, compare and repeat runs, and run experiments on a cluster."


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one sub-command and exit with its status. Never returns.

    Args:
        arguments: the command line; None takes ``sys.argv``.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    exit_with(lambda: _run(given), Command)


def _run(arguments: Sequence[str]) -> int:
    own = list(arguments)
    others: list[str] = []
    if own[:1] == ["submit"]:
        own, others = split(own)
    if asks_for_help(own) or not own:
        print_help(Command, program="labs", description=_DESCRIPTION, arguments=own)
        return 0
    command, unknown = parse_known(Command, own, prog="labs", description=_DESCRIPTION)
    if isinstance(command, Rerun):
        return command.run_again(unknown)
    if unknown:
        raise InputError(f"{unknown[0]} is not an option: see labs {arguments[0]} --help")
    if isinstance(command, Submit):
        return command.run(others)
    return command.run()
