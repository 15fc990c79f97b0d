"""A run on disk, read back without Ray: its table, its curves and its checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labs.runtime import checkpoints
from labs.runtime.directory.description import read_description, recorded_trials, restore
from labs.runtime.directory.files import GridFiles
from labs.runtime.directory.mirror import is_remote
from labs.runtime.directory.storage import StoragePath
from labs.runtime.directory.trial_files import PROGRESS
from labs.runtime.errors import InputError
from labs.runtime.reports import Checkpoint, Objective
from labs.runtime.results import GridResult


@dataclass(frozen=True)
class LoadedRun(GridResult):
    """What a run has left so far. A trial that has not ended has the status ``interrupted``."""

    path: Path = field(default_factory=Path)
    """The run's directory."""

    description: Mapping[str, Any] = field(default_factory=dict)
    """Its ``config.json``."""

    def load_checkpoint(self, trial: int | None = None) -> Checkpoint:
        """A trial's best checkpoint (the last one where no metric selects), on the CPU.

        Args:
            trial: its number. The default is the best trial of those that ran to their end.

        Raises:
            InputError: there is no such trial, or it has left no checkpoint.
        """
        if trial is None:
            best = self.best()
            if best is None:
                raise InputError("no trial has run to its end: name one by its number, `trial`")
            trial = int(best["trial"])
        if not 0 <= trial < len(self.table):
            raise InputError(f"`trial` {trial} is not in {self.path}: it has {len(self.table)}")
        place = self.checkpoint(trial)
        if place is None:
            raise InputError(f"trial {self.table['name'].iloc[trial]} has left no checkpoint")
        state = checkpoints.load_checkpoint(place)
        state.pop(PROGRESS, None)  # the runner's own
        return state


def load_run(run: str | Path) -> LoadedRun:
    """Read a run's directory; nothing is written, and a run that goes on is not disturbed.

    Args:
        run: the directory that holds its ``config.json``.

    Raises:
        InputError: it is not the directory of a run.
    """
    description = read_description(run)
    path = Path(run).expanduser().resolve()
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
    return LoadedRun(found.table, found.history, found.objective, path, description)
