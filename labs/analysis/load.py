"""Loading a run from disk without Ray: its table, its curves and its checkpoints."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labs.runtime import checkpoints
from labs.runtime.directory.description import read_description, recorded_trials, restore
from labs.runtime.directory.files import GridFiles
from labs.runtime.directory.lease import Lease
from labs.runtime.directory.mirror import fetch_run, is_remote
from labs.runtime.directory.storage import StoragePath
from labs.runtime.directory.trial_files import PROGRESS
from labs.runtime.errors import InputError
from labs.runtime.options import expand_user
from labs.runtime.reports import Checkpoint, Objective
from labs.runtime.results import GridResult


@dataclass(frozen=True)
class LoadedRun(GridResult):
    """The results of a run so far. A trial that has not ended has the status ``interrupted``."""

    path: Path = field(default_factory=Path)
    """The run's directory."""

    description: Mapping[str, Any] = field(default_factory=dict)
    """Its ``config.json``."""

    storage: StoragePath = field(default_factory=lambda: StoragePath("."))
    """The run's directory for all machines: on an object store, or ``path`` itself."""

    @property
    def is_written(self) -> bool:
        """Whether a driver is running, as far as the run's lease says."""
        return is_written(self.storage)

    def checkpoint_path(self, trial: int | None = None) -> str:
        """The path or URI of a trial's best checkpoint (of the last one without a metric).

        Args:
            trial: its number. The default is the best trial of those that ran to their end.

        Raises:
            InputError: there is no such trial, or it has no checkpoint.
        """
        if trial is None:
            best = self.best()
            if best is None:
                raise InputError("no trial has run to its end: set `trial` to the number of one")
            trial = int(best["trial"])
        if not 0 <= trial < len(self.table):
            raise InputError(f"`trial` {trial} is not in {self.path}: it has {len(self.table)}")
        place = self.checkpoint(trial)
        if place is None:
            raise InputError(f"trial {self.table['name'].iloc[trial]} has no checkpoint")
        return place

    def load_checkpoint(self, trial: int | None = None) -> Checkpoint:
        """Load a trial's best checkpoint (the last one without a metric) onto the CPU.

        Args:
            trial: its number. The default is the best trial of those that ran to their end.

        Raises:
            InputError: there is no such trial, or it has no checkpoint.
        """
        state = checkpoints.load_checkpoint(self.checkpoint_path(trial))
        state.pop(PROGRESS, None)  # of the runner, not of the trial
        return state


def load_run(run: str | Path) -> LoadedRun:
    """Load a run. Nothing is written, so a run that is still running is not disturbed.

    Args:
        run: the directory with its ``config.json``, or its URI on shared storage
            (``s3://bucket/runs/EXPERIMENT/NAME``), which is copied to a temporary directory.

    Raises:
        InputError: it is not a run directory, or it cannot be read.
    """
    path = local_copy(run)
    description = read_description(path)
    root = description["runtime"].get("run_root", "")
    storage = (
        StoragePath(root) / description["experiment"] / path.name
        if is_remote(root)
        else StoragePath(path)
    )
    trials = recorded_trials(description)
    files = GridFiles(
        [trial.name for trial in trials],
        [trial.config for trial in trials],
        path,
        storage / "checkpoints",
        restore(Objective, description.get("objective") or {}),
    )
    found = files.result()
    return LoadedRun(found.table, found.history, found.objective, path, description, storage)


def local_copy(run: str | Path) -> Path:
    """A run's directory; for a run on shared storage, a temporary copy without its checkpoints.

    Raises:
        InputError: it cannot be read.
    """
    if is_remote(str(run)):
        temporary = Path(tempfile.mkdtemp(prefix="labs-"))
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        return fetch_run(str(run), temporary, field="", quiet=True)[0]
    return expand_user(run).resolve()


def is_written(run: StoragePath) -> bool:
    """Whether a driver of the run is running, as far as its lease says.

    Raises:
        OSError: the storage cannot be reached.
    """
    return Lease(run).holder is not None
