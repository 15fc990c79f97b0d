"""``labs list``, ``labs show``, ...: which sub-command is asked for, and its exit status."""

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
from labs.runtime.cli import exit_with
from labs.runtime.errors import InputError

Command = (
    Annotated[List, tyro.conf.subcommand("list")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Rerun, tyro.conf.subcommand("rerun")]
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one sub-command and exit with its status. Never returns.

    Args:
        arguments: the command line, for tests.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    exit_with(lambda: _run(given), Command)


def _run(arguments: Sequence[str]) -> int:
    command, others = tyro.cli(
        Command,
        args=list(arguments) or ["--help"],
        prog="labs",
        description="Runs on disk: what is there, what came out, and running them again.",
        return_unknown_args=True,
    )
    if isinstance(command, Rerun):
        return command.run_again(others)
    if others:
        raise InputError(f"{others[0]} is no option here: see labs {arguments[0]} --help")
    return command.run()
