"""The options that every experiment has: where it runs, on what, and where its results go."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Literal

from labs.runtime.errors import InputError


@dataclass(frozen=True)
class NameOrPath:
    """Marks a ``str`` option that is one of some names, or else the path of a file or directory.

        dataset: Annotated[str, NameOrPath(("digits", "mnist"))] = "digits"

    ``launch`` makes such a path absolute, so that a resumed run finds the same file.
    """

    names: tuple[str, ...] = ()

    def absolute(self, value: str) -> str:
        """``value``, absolute where it is no name and such a file exists."""
        path = os.path.expanduser(value)
        is_path = value not in self.names and "://" not in value and os.path.exists(path)
        return os.path.abspath(path) if is_path else value


@dataclass(frozen=True)
class RuntimeOptions:
    """Where and how to run.

    Raises:
        InputError: a value is out of range, or two options contradict each other.
    """

    run_root: str = "runs"
    """Directory of all runs, or a URI of shared storage (s3://bucket/runs) for the checkpoints."""

    run_name: str | None = None
    """Name of this run's directory. The default is the date and time."""

    resume: str | None = None
    """Directory of an interrupted run to continue; finished trials are not run again."""

    local_mode: bool = False
    """Run everything in this process, one thing after another: for breakpoints."""

    address: str | None = None
    """Address of a running Ray cluster, or 'auto'. The default is RAY_ADDRESS, else a private Ray."""

    num_cpus: int | None = None
    """Cores that a private Ray uses. The default is all of them."""

    cpus_per_trial: float | None = None
    """Cores per trial, which are also its torch threads. The default is 1."""

    gpus_per_trial: float | None = None
    """GPUs per trial, fractions allowed. The default is 1 where there are GPUs and trials use them."""

    max_concurrent: int | None = None
    """Run at most so many trials at once. The default is as many as fit."""

    max_failures: int = 0
    """Start a failed trial again, from its last checkpoint, up to so many times."""

    trial_timeout: float | None = None
    """End a trial's process when it has not reported for so many seconds: it hangs. That counts as a
    failure."""

    scheduler: Literal["fifo", "asha"] = "fifo"
    """fifo runs every trial to its end; asha stops the less promising ones early."""

    checkpoint_interval: float = 30.0
    """Seconds between two checkpoints of a trial; 0 writes one after every report."""

    verbose: bool = False
    """Show Ray's own messages."""

    def __post_init__(self) -> None:
        if self.local_mode and self.address:
            raise InputError(
                "--local-mode runs in this process and --address elsewhere: use only one"
            )
        if self.local_mode and (self.gpus_per_trial or 0) > 1:
            raise InputError("--local-mode uses one GPU at most: use --gpus-per-trial 1 or less")
        if self.local_mode and self.trial_timeout is not None:
            raise InputError(
                "`local_mode` runs in this process, which `trial_timeout` would end: use only one"
            )
        if self.resume and self.run_name:
            raise InputError("--resume already names the run's directory: leave --run-name out")
        if self.run_name is not None and (
            not self.run_name or "/" in self.run_name or self.run_name.startswith(".")
        ):
            raise InputError(f"--run-name {self.run_name!r} is no name: use one such as first-try")
        self._require_ranges()

    def _require_ranges(self) -> None:
        for option, value, least in (
            ("--num-cpus", self.num_cpus, 1),
            ("--max-concurrent", self.max_concurrent, 1),
            ("--max-failures", self.max_failures, 0),
            ("--trial-timeout", self.trial_timeout, 1),
            ("--checkpoint-interval", self.checkpoint_interval, 0),
            ("--gpus-per-trial", self.gpus_per_trial, 0),
        ):
            if value is not None and not (math.isfinite(value) and value >= least):
                raise InputError(f"{option} {value} is too small: use {least} or more")
        if self.cpus_per_trial is not None and not (
            math.isfinite(self.cpus_per_trial) and self.cpus_per_trial > 0
        ):
            raise InputError(f"--cpus-per-trial {self.cpus_per_trial}: use a positive number")
        for option, value in (
            ("--cpus-per-trial", self.cpus_per_trial),
            ("--gpus-per-trial", self.gpus_per_trial),
        ):
            if value is not None and value > 1 and value != int(value):
                raise InputError(f"{option} {value}: above 1 Ray takes whole numbers only")
