"""``labs submit`` and ``labs fetch``: an experiment as a job of a cluster, and its results home."""

from __future__ import annotations

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
    """Run a script on a cluster, as a job that goes on when this machine is switched off.

    What follows the script is its own: labs submit cluster.yaml experiments/depth_sweep.py --preset paper.
    Its project goes along (what git does not ignore), and what it prints is shown until it ends or Ctrl-C.
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """The cluster's file, with which `ray up` started it."""

    script: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="SCRIPT")] = None
    """A Python file on this machine."""

    status: bool = False
    """List the cluster's jobs."""

    log: str | None = None
    """Show what this job has printed, until it ends or Ctrl-C."""

    stop: str | None = None
    """End this job: its run is left as Ctrl-C leaves it, and can be resumed."""

    def __post_init__(self) -> None:
        wanted = (self.script is not None, self.status, self.log is not None, self.stop is not None)
        if sum(wanted) != 1:
            raise InputError("give one of a script, `status`, `log` and `stop`")

    def run(self, options: Sequence[str] = ()) -> int:
        """Open the tunnel and do it.

        Args:
            options: of the script.
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
                raise InputError(f"`stop` {self.stop}: this job has ended already")
            jobs.stop(self.stop)
            say(f"job {self.stop} is told to end")
            return 0
        found = jobs.all()
        for job in found:
            say(describe(job))
        if not found:
            say("no job has been sent to this cluster")
        return 0

    def _watch(self, jobs: Jobs, name: str) -> int:
        try:
            status = watch(jobs, name)
        except KeyboardInterrupt:
            say(
                f"\njob {name} goes on: labs submit {self.file} --log {name} shows it,"
                f" labs submit {self.file} --stop {name} ends it"
            )
            return 0
        say(f"bring its results home with: labs fetch {self.file}")
        return status


@dataclass(frozen=True)
class Fetch:
    """Bring the runs of a cluster's head home."""

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """The cluster's file."""

    run_: Annotated[
        tyro.conf.Positional[str | None], tyro.conf.arg(name="run", metavar="EXPERIMENT/RUN")
    ] = None
    """One run. The default is all."""

    into: Path = Path("runs")
    """Directory of the runs here."""

    def run(self) -> int:
        """Copy what is new."""
        fetch(self.file, self.run_, self.into)
        say(f"in {self.into / (self.run_ or '')}")
        return 0


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """A command line of ``labs submit``: up to the script, and the script's own options."""
    end = next((i for i, word in enumerate(arguments) if word.endswith(".py")), len(arguments)) + 1
    return list(arguments[:end]), list(arguments[end:])
