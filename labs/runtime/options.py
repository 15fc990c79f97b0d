"""The options of every experiment: where it runs, with what resources, and where its results go."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from labs.runtime.errors import InputError


def expand_user(path: str | Path) -> Path:
    """The path with a leading ``~`` or ``~name`` replaced by the user's home directory.

    Raises:
        InputError: there is no such user, or this one has no home directory.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        name = Path(path).parts[0][1:]
        reason = f"there is no user {name}" if name else "this user has no home directory"
        raise InputError(f"{path}: {reason}") from None


@dataclass(frozen=True)
class NameOrPath:
    """Marks a ``str`` option that is one of the given names, or the path of a file or directory.

        dataset: Annotated[str, NameOrPath(("digits", "mnist"))] = "digits"

    ``launch`` makes such a path absolute, so that a resumed run finds the same file.
    """

    names: tuple[str, ...] = ()

    def absolute(self, value: str) -> str:
        """``value``, made absolute if it is not a name and such a file exists."""
        if value in self.names:
            return value
        path = expand_user(value)
        return os.path.abspath(path) if os.path.exists(path) else value


@dataclass(frozen=True)
class WordsTogether:
    """Marks a tuple of strings whose words on the command line are one value, and not a grid.

    env_kwargs: Annotated[tuple[str, ...], WordsTogether()] = ()
    """


@dataclass(frozen=True)
class RuntimeOptions:
    """Where and how to run.

    Raises:
        InputError: a value is out of range, or two options contradict each other.
    """

    run_root: str = "runs"
    """Directory of all runs, or a URI of shared storage (s3://bucket/runs)."""

    run_name: str | None = None
    """Name of this run's directory. The default is the date and time."""

    resume: str | None = None
    """Directory of an interrupted run to continue, or its URI on shared storage (s3://...); finished
    trials are not run again."""

    rerun: str | None = None
    """Start a new run with the options of this one (its directory or URI); options that are given as
    well take precedence."""

    local_mode: bool = False
    """Run everything in this process, one thing after another: for breakpoints."""

    address: str | None = None
    """Address of a running Ray cluster, or 'auto'. The default is RAY_ADDRESS, else a private Ray."""

    num_cpus: int | None = None
    """Cores that a private Ray uses. The default is all that this process may use."""

    cpus_per_trial: float | None = None
    """Cores per trial, which are also its torch threads. The default is 1."""

    gpus_per_trial: float | None = None
    """GPUs per trial, fractions allowed. The default is 1 where there are GPUs and trials use them."""

    memory_per_trial: float | None = None
    """Memory that each trial needs, in GiB: only as many trials start as fit. Not counted by default.
    Ray does not stop a trial that takes more."""

    max_concurrent: int | None = None
    """Run at most this many trials at once. The default is as many as fit."""

    max_failures: int = 0
    """Restart a failed trial from its last checkpoint, up to this many times."""

    trial_timeout: float | None = None
    """Kill a trial that has not reported for this many seconds, because it hangs. That counts as a
    failure."""

    scheduler: Literal["fifo", "asha"] = "fifo"
    """fifo runs every trial to its end; asha stops the less promising configs early."""

    checkpoint_interval: float = 30.0
    """Seconds between two checkpoints of a trial; 0 writes one after every report."""

    verbose: bool = False
    """Show Ray's own messages."""

    def __post_init__(self) -> None:
        if self.local_mode and self.address:
            raise InputError(
                "`local_mode` runs in this process and `address` elsewhere: use only one"
            )
        if self.local_mode and (self.gpus_per_trial or 0) > 1:
            raise InputError("`local_mode` uses one GPU at most: use `gpus_per_trial` 1 or less")
        if self.local_mode and self.trial_timeout is not None:
            raise InputError(
                "`local_mode` runs in this process, which `trial_timeout` would end: use only one"
            )
        if not self.run_root.strip():  # a shell variable that is not set
            raise InputError("`run_root` is empty: use a directory such as runs")
        if self.resume and self.run_name:
            raise InputError("`resume` already names the run's directory: leave `run_name` out")
        if self.resume and self.rerun:
            raise InputError("`resume` continues a run and `rerun` starts a new one: use only one")
        if self.run_name is not None and (
            not self.run_name or "/" in self.run_name or self.run_name.startswith(".")
        ):
            raise InputError(
                f"`run_name` {self.run_name!r} is not a valid name: use one such as first-try"
            )
        self._require_ranges()

    def _require_ranges(self) -> None:
        for field, least in (
            ("num_cpus", 1),
            ("max_concurrent", 1),
            ("max_failures", 0),
            ("trial_timeout", 1),
            ("checkpoint_interval", 0),
            ("gpus_per_trial", 0),
        ):
            value = getattr(self, field)
            if value is not None and not (math.isfinite(value) and value >= least):
                raise InputError(f"`{field}` {value} is too small: use {least} or more")
        for field in ("cpus_per_trial", "memory_per_trial"):
            value = getattr(self, field)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"`{field}` {value} is not valid: use a positive number")
        for field in ("cpus_per_trial", "gpus_per_trial"):
            value = getattr(self, field)
            if value is not None and value > 1 and value != int(value):
                raise InputError(f"`{field}` {value}: above 1 Ray takes whole numbers only")
