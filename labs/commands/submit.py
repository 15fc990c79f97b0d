"""``labs submit`` and ``labs fetch``: run a script as a job of a cluster, and fetch its results."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from labs.cluster.jobs import OVER, Jobs
from labs.cluster.submit import describe, fetch, read_token, start, tunnel, watch
from labs.runtime.errors import InputError
from labs.runtime.loop.console import say


@dataclass(frozen=True)
class Submit:
    """Run a script on a cluster, as a job that continues when this machine is switched off.

    Options after the script are for the script: labs submit cluster.yaml experiments/depth_sweep.py
    --preset paper. Its project is sent (except what git ignores), and its output is shown until the job
    ends or Ctrl-C.
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """The cluster file that `ray up` was called with."""

    script: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="SCRIPT")] = None
    """A Python file on this machine."""

    status: bool = False
    """List the cluster's jobs."""

    log: str | None = None
    """Show the output of this job, until it ends or Ctrl-C."""

    stop: str | None = None
    """Stop this job as Ctrl-C does; its run can be resumed."""

    def __post_init__(self) -> None:
        wanted = (self.script is not None, self.status, self.log is not None, self.stop is not None)
        if sum(wanted) != 1:
            raise InputError("give exactly one of a script, `status`, `log` and `stop`")

    def run(self, options: Sequence[str] = ()) -> int:
        """Open the tunnel and run the command.

        Args:
            options: options of the script.
        """
        if self.script is not None and not self.script.is_file():
            raise InputError(f"`script` {self.script} is not a file")
        with tunnel(self.file) as address:
            return self._run(Jobs(address, read_token()), options)

    def _run(self, jobs: Jobs, options: Sequence[str]) -> int:
        if self.script is not None:
            name = start(jobs, self.script, options)
            say(f"job {name}: Ctrl-C leaves it running")
            return self._watch(jobs, name)
        if self.log is not None:
            return self._watch(jobs, self.log)
        if self.stop is not None:
            if jobs.job(self.stop).status in OVER:
                raise InputError(f"`stop` {self.stop}: this job has already ended")
            jobs.stop(self.stop)
            say(f"job {self.stop} is being stopped")
            return 0
        found = jobs.all()
        for job in found:
            say(describe(job))
        if not found:
            say("no job has been submitted to this cluster")
        return 0

    def _watch(self, jobs: Jobs, name: str) -> int:
        try:
            status = watch(jobs, name)
        except KeyboardInterrupt:
            say(
                f"\njob {name} is still running: {_command('submit', self.file, '--log', name)} shows it,"
                f" {_command('submit', self.file, '--stop', name)} stops it"
            )
            return 0
        say(f"fetch its results with: {_command('fetch', self.file)}")
        return status


@dataclass(frozen=True)
class Fetch:
    """Download the runs from the head of a cluster."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """The cluster file."""

    run_: Annotated[
        tyro.conf.Positional[str | None], tyro.conf.arg(name="run", metavar="EXPERIMENT/RUN")
    ] = None
    """One run. The default is all runs."""

    into: Path = Path("runs")
    """Local directory of runs."""

    def run(self) -> int:
        """Copy what is new."""
        fetch(self.file, self.run_, self.into)
        say(f"in {self.into / (self.run_ or '')}")
        return 0


def _command(*words: object) -> str:
    """A command of ``labs``, as a shell takes it."""
    return shlex.join(["labs", *map(str, words)])


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command line of ``labs submit``: the part up to the script, and the script's options."""
    end = next((i for i, word in enumerate(arguments) if word.endswith(".py")), len(arguments)) + 1
    return list(arguments[:end]), list(arguments[end:])
