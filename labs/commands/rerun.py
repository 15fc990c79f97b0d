"""``labs rerun``: a run's program once more, with the run's options, into a new run."""

from __future__ import annotations

import os
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

_FROM_PYTHON = {"trials"}
"""The only field of the config of a run that ``labs.sweep`` made: it has no options."""


@dataclass(frozen=True)
class Rerun:
    """Run a run again, from its config.json into a new run.

    Options that follow are the program's own and replace the run's: labs rerun RUN --seeds 8. It is said
    where the code, the versions or the trials are no longer those of the run.
    """

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """Directory of the run, or its place on shared storage (s3://...)."""

    script: Path | None = None
    """The run's script, where it is no longer in its place."""

    def run_again(self, options: Sequence[str]) -> int:
        """Become the run's program. Never returns.

        Args:
            options: of the program.

        Raises:
            InputError: the run was not made by a command line, or its program is not there.
        """
        described = read_description(local_copy(self.run))
        if described["config"].keys() == _FROM_PYTHON:
            raise InputError(
                f"{self.run} was made from Python, by labs.sweep, and has no options: run its program"
                f" again, {command_of(described, *described['arguments'])}"
            )
        program = program_of(described) if self.script is None else [str(self.script.absolute())]
        place = self.run if is_remote(self.run) else str(Path(self.run).expanduser().resolve())
        if program[0] != "-m" and not Path(program[0]).is_file():
            raise InputError(f"{program[0]} is not there: say with `script` where it is now")
        where = Path(described.get("directory", ""))
        if where.is_dir():  # a program may read files of the directory that it was started in
            os.chdir(where)
        command = ["python", *program, "--rerun", place, *options]
        say(f"running {' '.join(command)}")
        os.execv(sys.executable, [sys.executable, *command[1:]])
