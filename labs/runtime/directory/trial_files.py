"""The files of one trial: its newest state, its best one, and who may write them. Knows no Ray."""

from __future__ import annotations

import json
import uuid
from typing import Any, TypedDict

from labs.runtime.checkpoints import from_bytes, to_bytes
from labs.runtime.directory.storage import StoragePath
from labs.runtime.reports import Checkpoint

PROGRESS = "trial"
"""The key under which a trial's checkpoints hold what the runner knows, beside the state."""

ReportRow = dict[str, Any]
"""A report on its way to the driver: ``step``, ``seconds``, ``attempt``, ``metrics``, and ``texts``
and ``histograms`` where there are any."""


class Progress(TypedDict):
    """What ``last.pt`` holds beside the trial's state."""

    step: int
    """Step of the report from which training goes on."""
    seconds: float
    """How long the trial has trained, over all attempts."""
    best: tuple[float, int, str | None] | None
    """Value, step and attempt of the report that belongs to ``best.pt``."""
    has_metric: bool
    """Whether any report so far had the metric that selects."""
    unacknowledged: list[ReportRow]
    """Reports that the driver may not have recorded."""


class TrialFilesTaken(RuntimeError):
    """A newer attempt of the same trial writes these files."""


class TrialFiles:
    """``last.pt``, ``best.pt`` and ``attempt.json`` in a trial's directory.

    ``best.pt`` and what ``last.pt`` says of it are one pair, whenever the process dies: the new best
    checkpoint is written beside the old one, then ``last.pt`` names it, then it takes the old one's
    place. :meth:`claim` finishes what a process that died has left undone.

    Every method raises OSError where the storage fails.
    """

    def __init__(self, directory: StoragePath) -> None:
        self.last = directory / "last.pt"
        self.best = directory / "best.pt"
        self._next_best = directory / "best.pt.next"
        self._attempt = directory / "attempt.json"
        self.token = uuid.uuid4().hex[:12]

    def claim(self) -> tuple[Checkpoint | None, Progress | None]:
        """Become the only one who writes here; the newest state with its progress, if there is one.

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
        """The newest state with its progress, for whoever only looks; both None without one."""
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
            raise TrialFilesTaken("a newer attempt of this trial is at work; this one stops")
        # In this order: until last.pt names the new best, the old pair is whole.
        if best is not None:
            self._next_best.write(best)
        self.last.write(last)
        if best is not None:
            self._next_best.move(self.best)


def best_content(state: Checkpoint, report: ReportRow) -> bytes:
    """What stands in ``best.pt``: the state, and the report that it belongs to."""
    plain = {key: report[key] for key in ("step", "seconds", "attempt", "metrics")}
    return to_bytes({**state, PROGRESS: {"report": plain}})


def last_content(state: Checkpoint, progress: Progress) -> bytes:
    """What stands in ``last.pt``."""
    return to_bytes({**state, PROGRESS: progress})
