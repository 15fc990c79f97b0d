"""One trial of a grid: drives a generator of reports, saves its state and says what it wrote.

It knows neither Ray nor Tune. Whoever calls :meth:`TrialRunner.step` (an actor of Tune's, or the loop
in this process) hands the result to the recorder before it asks for the next one.
"""

from __future__ import annotations

import bdb
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import torch

from labs.runtime.checkpoints import from_bytes, require_loadable
from labs.runtime.directory.storage import StoragePath, retry_io
from labs.runtime.directory.trial_files import (
    PROGRESS,
    Progress,
    ReportRow,
    TrialFiles,
    TrialFilesTaken,
    best_content,
    last_content,
)
from labs.runtime.machine import memory
from labs.runtime.machine.devices import same_numbers
from labs.runtime.machine.memory import MemoryUse
from labs.runtime.output.capture import Destination
from labs.runtime.reports import Checkpoint, Objective, Report, Train

BATCH_SECONDS = 0.5
"""A step of Tune costs a round trip to the driver, so short epochs travel several at a time."""

MIRROR_SECONDS = 60.0
"""On an object store the driver's record is a copy that lags behind. ``last.pt`` there keeps reports
for so long after they were acknowledged, so that a driver that starts from the copy misses none."""


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
    trial_timeout: float | None = None
    """Seconds without a report after which a trial's process is ended; not in local mode."""
    output: Destination | None = None
    """Where what a trial's process prints is taken; None leaves it alone."""


class StepResult(TypedDict):
    """What a trial says after each step."""

    reports: list[ReportRow]
    best_step: int | None
    """Step of the best report that has a checkpoint. It is on disk when the trial is done, and
    whenever ``last.pt`` has been written since."""
    done: bool
    completed: bool
    """As ``done``, which Tune also sets where its scheduler stops a trial."""
    failure: Mapping[str, str] | None
    """``error`` (one line) and ``traceback``."""
    memory: MemoryUse
    """The most that the trial's process has held so far."""


class TrialRunner:
    """Runs one trial, from its last checkpoint where there is one.

    The trial writes its own checkpoints, and begins by looking for ``last.pt``: a retry, a trial
    moved to another machine and a run resumed after the driver died are then the same case.
    ``last.pt`` carries the reports that the driver has not acknowledged, which it does by asking for
    the next step.
    """

    def __init__(self, grid: GridSpec, index: int, shared: Mapping[str, Any]) -> None:
        torch.set_num_threads(grid.threads)
        memory.keep_freed_memory()
        memory.reset_peak()
        self._grid = grid
        self._spec = grid.trials[index]
        self._shared = shared
        self._files = TrialFiles(self._spec.checkpoints)
        self._reports: Iterator[Report] | None = None
        self.failure: BaseException | None = None
        self._new: list[ReportRow] = []
        """Reports since the last step ended."""
        self._sent: list[ReportRow] = []
        """What the last step returned, not acknowledged yet."""
        self._acknowledged: list[tuple[float, ReportRow]] = []
        """Acknowledged within MIRROR_SECONDS, on an object store."""
        self._last: Report | None = None
        self._last_step: int | None = None
        self._unsaved = False
        self._tags: set[str] = set()
        self._resumed = self._has_metric = False
        self._best: tuple[float, int, str | None] | None = None
        """Value, step and attempt of the best report that has a checkpoint."""
        self._best_bytes: bytes | None = None
        """The best checkpoint, until it is written."""
        self._seconds_before = 0.0
        self._started = self._saved = time.monotonic()

    def step(self) -> StepResult:
        """The reports of the next half second, or of one report where that takes longer.

        An error of the training is in the result; the step after that raises it. An interrupt (and
        leaving the debugger) is raised at once.
        """
        if self.failure is not None:
            raise self.failure
        self._acknowledge()
        deadline = time.monotonic() + self._grid.batch_seconds
        done = False
        try:
            if self._reports is None:
                self._reports = self._start()
            while not done and self.failure is None:
                with same_numbers():
                    report = next(self._reports, None)
                if report is None:
                    done = True
                    self._require_reports()
                    # On disk before the driver is told: a trial that is done is never started again.
                    retry_io(self._save)
                else:
                    self._take(report)
                    if time.monotonic() >= deadline:
                        break
        except bdb.BdbQuit as error:  # an Exception, but the user's wish to leave
            self._fail(error)
            raise
        except Exception as error:  # told with what came before it; raised in the next step
            self._fail(error)
        except BaseException as error:
            self._fail(error)
            raise
        return self._result(done and self.failure is None)

    def close(self) -> None:
        """Leave the trial, finished or not, with its newest state and its best one on disk."""
        if self.failure is None:
            self._save_or_go_on()
        if self._reports is not None:
            self._reports.close()  # type: ignore[attr-defined]  # a generator's
        self._reports = self._last = None
        memory.release_memory()

    def _start(self) -> Iterator[Report]:
        """The generator, from the beginning or from this trial's last checkpoint."""
        self._started = self._saved = time.monotonic()
        resume, progress = retry_io(self._files.claim)
        if progress is not None:
            self._new = [_as_arrays(row) for row in progress["unacknowledged"]]
            self._last_step = progress["step"]
            self._seconds_before = progress["seconds"]
            self._resumed, self._has_metric = True, progress["has_metric"]
            self._best = progress["best"]
        reports = self._grid.train(self._spec.config, resume=resume, **self._shared)
        if not isinstance(reports, Iterator):
            raise TypeError(
                f"{_name(self._grid.train)} returned {type(reports).__name__}: a training procedure is"
                " a generator, which yields labs.Report(step, metrics)"
            )
        return reports

    def _take(self, report: Report) -> None:
        if not isinstance(report, Report):
            raise TypeError(
                f"{_name(self._grid.train)} yielded {type(report).__name__}: a training procedure"
                " yields labs.Report(step, metrics)"
            )
        if self._last_step is not None and report.step <= self._last_step:
            raise ValueError(
                f"step {report.step} was reported after step {self._last_step}: the step only grows"
            )
        row: ReportRow = {
            "step": int(report.step),
            "seconds": self._elapsed(),
            "attempt": self._files.token,
            "metrics": {tag: float(value) for tag, value in report.metrics.items()},
        }
        if report.texts:
            row["texts"] = dict(report.texts)
        if report.histograms:
            row["histograms"] = {tag: np.asarray(v) for tag, v in report.histograms.items()}
        first = self._last is None
        self._last, self._last_step, self._unsaved = report, row["step"], True
        self._new.append(row)
        self._tags.update(row["metrics"])
        value = self._grid.objective.value(row["metrics"])
        self._has_metric = self._has_metric or value is not None
        if report.checkpoint is None:
            return
        if value is not None and self._grid.objective.is_better(
            value, self._best and self._best[0]
        ):
            self._best = (value, row["step"], row["attempt"])
            self._best_bytes = best_content(self._state(report, first), row)
        elif first:
            self._state(report, check=True)
        if time.monotonic() - self._saved >= self._grid.checkpoint_interval:
            self._save_or_go_on()

    def _state(self, report: Report, check: bool = False) -> Checkpoint:
        """The report's checkpoint. ``check``: what cannot be read back is said at the first report."""
        assert report.checkpoint is not None
        state = report.checkpoint()
        if check:
            require_loadable(state)
            if PROGRESS in state:
                raise ValueError(f"a checkpoint's key {PROGRESS!r} is the runner's: choose another")
        return {"kind": _name(self._grid.train), **state}

    def _save_or_go_on(self) -> None:
        """Save, but let training go on where storage fails: only its end needs a checkpoint."""
        try:
            self._save()
        except OSError as error:
            self._saved = time.monotonic()
            print(f"checkpoint {self._spec.checkpoints} not written: {error}", file=sys.stderr)
        except TrialFilesTaken as error:
            self.failure = error

    def _save(self) -> None:
        """Write the newest state that there is: the last report's, else the best one's."""
        if not self._unsaved:
            return
        best = self._best_bytes
        if self._last is not None and self._last.checkpoint is not None and not self.failure:
            state, step, seconds = self._state(self._last), self._last_step, self._elapsed()
            self._unsaved = False
        elif best is not None:
            # The last report has no checkpoint, or training has gone on from it and failed: its
            # state is then not the one that was reported.
            state = from_bytes(best, self._files.best)
            report = state.pop(PROGRESS)["report"]
            step, seconds = report["step"], report["seconds"]
        else:
            return
        assert step is not None
        rows = [*(row for _, row in self._acknowledged), *self._sent, *self._new]
        progress: Progress = {
            "step": step,
            "seconds": seconds,
            "best": self._best,
            "has_metric": self._has_metric,
            "unacknowledged": [_as_tensors(row) for row in rows if row["step"] <= step],
        }
        try:
            self._files.save(last_content(state, progress), best)
        except BaseException:  # Ctrl-C as well: close() then tries once more
            self._unsaved = True
            raise
        self._best_bytes = None  # only now: a save that failed is repeated with it
        self._saved = time.monotonic()

    def _fail(self, error: BaseException) -> None:
        """Keep the error, and what was best so far."""
        self.failure = error
        if not isinstance(error, TrialFilesTaken):
            try:
                self._save()
            except Exception as further:  # the first error is the one that counts
                print(
                    f"checkpoint {self._spec.checkpoints} not written: {further}", file=sys.stderr
                )

    def _require_reports(self) -> None:
        """What only the end shows: no report at all, or none with the metric."""
        if self._last is None and not self._resumed:
            raise ValueError(f"{_name(self._grid.train)} ended without a report")
        metric = self._grid.objective.metric
        if metric is not None and not self._has_metric:
            raise ValueError(
                f"no report of the trial has the metric {metric!r}, by which the best one is selected;"
                f" there are {', '.join(sorted(self._tags)) or 'none'}"
            )

    def _acknowledge(self) -> None:
        """Whoever asks for another step has recorded the one before."""
        if self._spec.checkpoints.local is None:
            now = time.monotonic()
            recent = [(at, row) for at, row in self._acknowledged if now - at < MIRROR_SECONDS]
            self._acknowledged = [*recent, *((now, row) for row in self._sent)]
        self._sent = []

    def _elapsed(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def _result(self, done: bool) -> StepResult:
        self._sent, self._new = self._new, []
        return {
            "reports": self._sent,
            "best_step": self._best[1] if self._best else None,
            "done": done,
            "completed": done,
            "failure": None if self.failure is None else describe(self.failure),
            "memory": memory.peak_memory(),
        }


def describe(error: BaseException) -> Mapping[str, str]:
    """An exception as text: a pickled one may need modules that the driver lacks."""
    return {
        "error": f"{type(error).__name__}: {error}".strip().rstrip(":"),
        "traceback": "".join(traceback.format_exception(error)),
    }


def _name(function: Any) -> str:
    """``module.function``; a partial has only that of what it calls."""
    function = getattr(function, "func", function)
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', function)}"


def _as_tensors(row: ReportRow) -> ReportRow:
    """As a checkpoint may hold it: arrays are read back only as tensors."""
    histograms = row.get("histograms")
    if not histograms:
        return row
    arrays = {tag: np.asarray(values, dtype=np.float64) for tag, values in histograms.items()}
    return {**row, "histograms": {tag: torch.from_numpy(a.copy()) for tag, a in arrays.items()}}


def _as_arrays(row: ReportRow) -> ReportRow:
    histograms = row.get("histograms")
    if not histograms:
        return row
    return {**row, "histograms": {tag: tensor.numpy() for tag, tensor in histograms.items()}}
