"""One trial of a grid: drives a generator of reports inside a Ray Tune actor."""

from __future__ import annotations

import gc
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from ray import tune

from labs.runtime.checkpoints import from_bytes, to_bytes
from labs.runtime.memory import keep_freed_memory
from labs.runtime.reports import Checkpoint, Objective, Report, Train
from labs.runtime.storage import StoragePath, retry_io

BATCH_SECONDS = 0.5
"""A step of Tune costs a round trip to the driver, so short epochs travel several at a time."""


@dataclass(frozen=True)
class TrialSpec:
    """What one trial runs, and where its checkpoints are."""

    config: Any
    checkpoints: StoragePath


@dataclass(frozen=True)
class GridSpec:
    """What all trials of a grid share."""

    train: Train
    trials: Sequence[TrialSpec]
    objective: Objective
    checkpoint_interval: float
    batch_seconds: float
    threads: int


class Trial(tune.Trainable):
    """Runs trial ``config["index"]`` of a grid; the actor is reused for further trials.

    The trial writes its own checkpoints, ``last.pt`` and ``best.pt``, and begins by looking for
    ``last.pt``: a retry, a trial moved to another machine and a run resumed after the driver died
    are then the same case. ``last.pt`` carries the reports that the driver may not have seen.
    """

    def setup(self, config: dict[str, Any], grid: GridSpec, **shared: Any) -> None:
        """Tune calls it once per process: the grid comes from the object store."""
        self._grid = grid
        self._shared = shared
        keep_freed_memory()
        # Looking through all that the imports made would take longer than a short trial's training.
        gc.freeze()
        self._begin(config["index"])

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Go on with another trial in the same process."""
        self._end()
        self._begin(new_config["index"])
        return True

    def cleanup(self) -> None:
        """Tune calls it when the process ends (in local mode: is needed no longer)."""
        self._end()
        gc.unfreeze()

    def _begin(self, index: int) -> None:
        torch.set_num_threads(self._grid.threads)
        self._spec = self._grid.trials[index]
        self._reports: Iterator[Report] | None = None
        self._failure: Exception | None = None
        self._pending: list[dict[str, Any]] = []
        self._last: Report | None = None
        self._unsaved = False
        self._best_value: float | None = None
        self._best_bytes: bytes | None = None
        self._seconds_before = 0.0
        self._metrics: dict[str, float] = {}

    def _end(self) -> None:
        """Leave a trial, finished or not, with its newest state on disk."""
        if self._failure is None:
            self._save_or_go_on()
        if self._reports is not None:
            self._reports.close()  # type: ignore[attr-defined]
        self._reports = None
        self._last = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _start(self) -> Iterator[Report]:
        """The generator, from the beginning or from this trial's last checkpoint."""
        self._started = self._saved = time.monotonic()
        path = self._spec.checkpoints / "last.pt"
        resume: Checkpoint | None = None
        content = retry_io(path.read)
        if content is not None:
            resume = from_bytes(content, path)
            progress = resume.pop("trial")
            self._pending = list(progress["pending"])
            self._best_value = progress["best"]
            self._seconds_before = progress["seconds"]
        return self._grid.train(self._spec.config, resume=resume, **self._shared)

    def step(self) -> dict[str, Any]:
        """The reports of the next half second, or of one report where that takes longer."""
        if self._failure is not None:
            raise self._failure
        deadline = time.monotonic() + self._grid.batch_seconds
        done = False
        try:
            if self._reports is None:
                self._reports = self._start()
            while not done:
                report = next(self._reports, None)
                if report is None:
                    done = True
                    retry_io(self._save)
                else:
                    self._take(report)
                    if time.monotonic() >= deadline:
                        break
        except Exception as error:
            self._failure = error
        return self._result(done)

    def _take(self, report: Report) -> None:
        self._last, self._unsaved = report, True
        self._pending.append(
            {
                "step": report.step,
                "seconds": self._elapsed(),
                "metrics": {tag: float(value) for tag, value in report.metrics.items()},
                "texts": dict(report.texts),
                "histograms": dict(report.histograms),
            }
        )
        if report.checkpoint is None:
            return
        value = self._grid.objective.value(report.metrics)
        if value is not None and self._grid.objective.is_better(value, self._best_value):
            self._best_value = value
            self._best_bytes = to_bytes(report.checkpoint())
        if time.monotonic() - self._saved >= self._grid.checkpoint_interval:
            self._save_or_go_on()

    def _save_or_go_on(self) -> None:
        """While storage is away, training goes on: only its end insists on a checkpoint."""
        try:
            self._save()
        except OSError as error:
            self._saved = time.monotonic()
            print(f"checkpoint {self._spec.checkpoints} not written: {error}", file=sys.stderr)

    def _save(self) -> None:
        """Write the best checkpoint, then the last: ``last.pt`` never runs ahead of ``best.pt``."""
        if self._last is None or self._last.checkpoint is None or not self._unsaved:
            return
        if self._best_bytes is not None:
            (self._spec.checkpoints / "best.pt").write(self._best_bytes)
            self._best_bytes = None
        pending = [{k: row[k] for k in ("step", "seconds", "metrics")} for row in self._pending]
        progress = {"pending": pending, "best": self._best_value, "seconds": self._elapsed()}
        content = to_bytes({**self._last.checkpoint(), "trial": progress})
        (self._spec.checkpoints / "last.pt").write(content)
        self._saved, self._unsaved = time.monotonic(), False

    def _elapsed(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def _result(self, done: bool) -> dict[str, Any]:
        reports, self._pending = self._pending, []
        if reports:
            self._metrics = dict(reports[-1]["metrics"], step=reports[-1]["step"])
        result: dict[str, Any] = {**self._metrics, "reports": reports, "done": done}
        result["completed"] = done  # Tune also sets done where its scheduler stops a trial
        if self._failure is not None:
            result["failure"] = describe(self._failure)
        return result


def describe(error: Exception) -> Mapping[str, str]:
    """An exception as text: a pickled one may need modules that the driver lacks."""
    return {
        "error": f"{type(error).__name__}: {error}".strip().rstrip(":"),
        "traceback": "".join(traceback.format_exception(error)),
    }
