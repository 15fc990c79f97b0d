"""The checkpoint files of one trial, and which attempt may write them. Does not depend on Ray."""

from __future__ import annotations

import json
import uuid
from typing import Any, TypedDict

import numpy as np
import torch

from labs.runtime.checkpoints import from_bytes, to_bytes
from labs.runtime.directory.storage import StoragePath
from labs.runtime.reports import Checkpoint

PROGRESS = "trial"
"""The key of a checkpoint under which the runner keeps its own data, beside the trial's state."""

ReportRow = dict[str, Any]
"""A report in the form that is sent to the driver: ``step``, ``seconds``, ``attempt``, ``metrics``, and
optionally ``texts`` and ``histograms``."""


class Progress(TypedDict):
    """What ``last.pt`` contains beside the trial's state."""

    step: int
    """Step of the report from which training continues."""
    seconds: float
    """Training time of all attempts so far."""
    best: tuple[float, int, str | None] | None
    """Value, step and attempt of the report that belongs to ``best.pt``."""
    has_metric: bool
    """Whether any report so far had the objective's metric."""
    unacknowledged: list[ReportRow]
    """Reports that the driver may not have recorded."""


class TrialFilesTaken(RuntimeError):
    """A newer attempt of the same trial writes these files."""


class TrialFiles:
    """``last.pt``, ``best.pt`` and ``attempt.json`` in a trial's directory.

    ``best.pt`` and ``last.pt``, which names the best report, always match, even if the process dies
    during a save. The new best checkpoint is written as ``best.pt.next``, then ``last.pt`` is written,
    which names it, then it is renamed to ``best.pt``. If a process died before the renaming,
    :meth:`claim` does it; if it died before ``last.pt`` was written, :meth:`claim` deletes the file.

    Every method raises OSError if the storage fails.
    """

    def __init__(self, directory: StoragePath) -> None:
        self.last = directory / "last.pt"
        self.best = directory / "best.pt"
        self._next_best = directory / "best.pt.next"
        self._attempt = directory / "attempt.json"
        self.token = uuid.uuid4().hex[:12]

    def claim(self) -> tuple[Checkpoint | None, Progress | None]:
        """Become the only attempt that may save; returns the newest state with its progress, or Nones.

        Raises:
            InputError: ``last.pt`` is damaged.
        """
        self._attempt.write(json.dumps({"token": self.token}).encode())
        state, progress = self.read()
        if progress is None or not self._next_best.exists():
            if progress is None and self._next_best.exists():
                self._next_best.delete()
            return state, progress
        content = self._next_best.read()
        assert content is not None
        report = from_bytes(content, self._next_best)[PROGRESS]["report"]
        best = progress["best"]
        if best is not None and best[1:] == (report["step"], report["attempt"]):
            self._next_best.move(self.best)
        else:
            self._next_best.delete()
        return state, progress

    def read(self) -> tuple[Checkpoint | None, Progress | None]:
        """The newest state with its progress, without the right to save; both None if there is none."""
        content = self.last.read()
        if content is None:
            return None, None
        state = from_bytes(content, self.last)
        return state, state.pop(PROGRESS)

    def save(self, last: bytes, best: bytes | None) -> None:
        """Write the newest state, and the best one where it is new.

        Raises:
            TrialFilesTaken: a newer attempt of the trial has begun; nothing is written.
        """
        content = self._attempt.read()
        if content is None or json.loads(content)["token"] != self.token:
            raise TrialFilesTaken("a newer attempt of this trial is running; this one stops")
        # In this order: until last.pt names the new best, the old pair on disk matches.
        if best is not None:
            self._next_best.write(best)
        self.last.write(last)
        if best is not None:
            self._next_best.move(self.best)


def best_content(state: Checkpoint, report: ReportRow) -> bytes:
    """The content of ``best.pt``: the state, and the report that it belongs to."""
    plain = {key: report[key] for key in ("step", "seconds", "attempt", "metrics")}
    return to_bytes({**state, PROGRESS: {"report": plain}})


def last_content(state: Checkpoint, progress: Progress) -> bytes:
    """The content of ``last.pt``."""
    return to_bytes({**state, PROGRESS: progress})


def row_as_tensors(row: ReportRow) -> ReportRow:
    """The row as a checkpoint may contain it: tensors instead of arrays."""
    histograms = row.get("histograms")
    if not histograms:
        return row
    arrays = {tag: np.asarray(values, dtype=np.float64) for tag, values in histograms.items()}
    return {**row, "histograms": {tag: torch.from_numpy(a.copy()) for tag, a in arrays.items()}}


def row_as_arrays(row: ReportRow) -> ReportRow:
    """The reverse of :func:`row_as_tensors`."""
    histograms = row.get("histograms")
    if not histograms:
        return row
    return {**row, "histograms": {tag: tensor.numpy() for tag, tensor in histograms.items()}}
