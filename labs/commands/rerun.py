"""``labs rerun``: start a new run with the program and the options of another run."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from labs.analysis.load import local_copy
from labs.runtime.directory.description import command_of, program_of, read_description
from labs.runtime.directory.mirror import is_remote
from labs.runtime.errors import InputError
from labs.runtime.loop.console import say
from labs.runtime.options import expand_user

_FROM_PYTHON = {"trials"}
"""The fields of a config that ``labs.sweep`` wrote, which has no options."""


@dataclass(frozen=True)
class Rerun:
    """Start a new run with the options of another run, from its config.json.

    Options of the program may follow and replace those of the run: labs rerun RUN --seeds 8. A note says
    if the code, the versions or the trials are no longer those of the run.
    """

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """Directory of the run, or its URI on shared storage (s3://...)."""

    script: Path | None = None
    """The run's script, if it has been moved."""

    def run_again(self, options: Sequence[str]) -> int:
        """Replace this process by the run's program. Never returns.

        Args:
            options: options of the program.

        Raises:
            InputError: the run was not started from a command line, or its program does not exist.
        """
        described = read_description(local_copy(self.run))
        if described["config"].keys() == _FROM_PYTHON:
            raise InputError(
                f"{self.run} was started in Python, by labs.sweep, and has no options: run its program"
                f" again, {command_of(described, *described['arguments'])}"
            )
        program = program_of(described) if self.script is None else [str(self.script.absolute())]
        place = self.run if is_remote(self.run) else str(expand_user(self.run).resolve())
        if program[0] != "-m" and not Path(program[0]).is_file():
            raise InputError(f"{program[0]} does not exist: give its new path with `script`")
        where = Path(described.get("directory", ""))
        if where.is_dir():  # the program may use paths relative to the directory it was started in
            os.chdir(where)
        command = ["python", *program, "--rerun", place, *options]
        say(f"running {shlex.join(command)}")
        os.execv(sys.executable, [sys.executable, *command[1:]])
