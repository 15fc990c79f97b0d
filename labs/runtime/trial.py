"""One trial of a grid: runs a generator of reports and saves its state.

It does not depend on Ray. The caller of :meth:`TrialRunner.step` (an actor of Tune, or the loop in this
process) passes each result to the recorder before it calls ``step`` again.
"""

from __future__ import annotations

import sys
import time
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
    row_as_arrays,
    row_as_tensors,
)
from labs.runtime.loop.failures import describe, must_end, without_exit
from labs.runtime.machine import memory
from labs.runtime.machine.devices import same_numbers
from labs.runtime.machine.memory import MemoryUse
from labs.runtime.output.capture import Destination
from labs.runtime.procedures import Procedures
from labs.runtime.reports import Checkpoint, Objective, Report, Train, whole_characters

BATCH_SECONDS = 0.5
"""A step of Tune costs a round trip to the driver, so the reports of this long are sent together."""

MIRROR_SECONDS = 60.0
"""On an object store the driver's record is a copy that is some seconds old. There ``last.pt`` keeps
reports for this long after they were acknowledged, so that a driver that starts from the copy gets
them all."""


@dataclass(frozen=True)
class TrialSpec:
    """The config of one trial, and where its checkpoints are."""

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
    """Seconds without a report after which a trial's process is killed; not in local mode."""
    output: Destination | None = None
    """Where the output of a trial's process is sent; None does not capture it."""


class StepResult(TypedDict):
    """The result of a step of a trial."""

    reports: list[ReportRow]
    best_step: int | None
    """Step of the best report that has a checkpoint. The checkpoint is on disk when the trial is done,
    and whenever ``last.pt`` has been written after that report."""
    done: bool
    completed: bool
    """The same as ``done``, which Tune also sets when its scheduler stops a trial."""
    failure: Mapping[str, str] | None
    """``error`` (one line) and ``traceback``."""
    memory: MemoryUse
    """The largest memory of the trial's process so far."""


class TrialRunner:
    """Runs one trial, from its last checkpoint if there is one.

    The trial writes its own checkpoints, and starts by looking for ``last.pt``. So a retry, a trial
    that was moved to another machine and a run that is resumed after the driver died are the same
    case. ``last.pt`` contains the reports that the driver has not acknowledged; it acknowledges them
    by asking for the next step.
    """

    def __init__(self, grid: GridSpec, index: int, shared: Mapping[str, Any]) -> None:
        torch.set_num_threads(grid.threads)
        memory.keep_freed_memory()
        memory.reset_peak()
        self._grid = grid
        self._spec = grid.trials[index]
        train = grid.train
        self._train = train.select(self._spec.config) if isinstance(train, Procedures) else train
        self._shared = shared
        self._files = TrialFiles(self._spec.checkpoints)
        self._reports: Iterator[Report] | None = None
        self.failure: BaseException | None = None
        self._new: list[ReportRow] = []
        """Reports since the last step ended."""
        self._sent: list[ReportRow] = []
        """Reports that the last step returned; the next call of ``step`` acknowledges them."""
        self._acknowledged: list[tuple[float, ReportRow]] = []
        """On an object store: reports that were acknowledged in the last MIRROR_SECONDS."""
        self._last: Report | None = None
        self._last_step: int | None = None
        self._unsaved = False
        self._tags: set[str] = set()
        self._resumed = self._has_metric = False
        self._best: tuple[float, int, str | None] | None = None
        """Value, step and attempt of the best report that has a checkpoint."""
        self._best_bytes: bytes | None = None
        """The best checkpoint as long as it is not on disk."""
        self._seconds_before = 0.0
        self._started = self._saved = time.monotonic()

    def step(self) -> StepResult:
        """The reports of the next ``batch_seconds``, at least one.

        An error of the training is part of the result, and the next call raises it; so is
        ``sys.exit``. An interrupt (or leaving the debugger) is raised at once.
        """
        if self.failure is not None:
            raise without_exit(self.failure)
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
                    # On disk before the driver knows: a trial that is done is never started again,
                    # so nothing could write its checkpoint later.
                    retry_io(self._save)
                else:
                    self._take(report)
                    if time.monotonic() >= deadline:
                        break
        except BaseException as error:  # returned with the reports before it
            self._fail(error)
            if must_end(error):
                raise
        return self._result(done and self.failure is None)

    def close(self) -> None:
        """End the trial, finished or not, with its newest and its best checkpoint on disk."""
        if self.failure is None:
            self._save_or_go_on()
        if self._reports is not None:
            self._reports.close()  # type: ignore[attr-defined]  # of a generator
        self._reports = self._last = None
        memory.release_memory()

    def _start(self) -> Iterator[Report]:
        """The generator, from the beginning or from this trial's last checkpoint."""
        self._started = self._saved = time.monotonic()
        resume, progress = retry_io(self._files.claim)
        if progress is not None:
            self._new = [row_as_arrays(row) for row in progress["unacknowledged"]]
            self._last_step = progress["step"]
            self._seconds_before = progress["seconds"]
            self._resumed, self._has_metric = True, progress["has_metric"]
            self._best = progress["best"]
        reports = self._train(self._spec.config, resume=resume, **self._shared)
        if not isinstance(reports, Iterator):
            raise TypeError(
                f"{_name(self._train)} returned {type(reports).__name__}: a training procedure must"
                " be a generator that yields labs.Report(step, metrics)"
            )
        return reports

    def _take(self, report: Report) -> None:
        if not isinstance(report, Report):
            raise TypeError(
                f"{_name(self._train)} yielded {type(report).__name__}: a training procedure must"
                " yield labs.Report(step, metrics)"
            )
        if self._last_step is not None and report.step <= self._last_step:
            raise ValueError(
                f"step {report.step} was reported after step {self._last_step}: steps must increase"
            )
        row: ReportRow = {
            "step": int(report.step),
            "seconds": self._elapsed(),
            "attempt": self._files.token,
            "metrics": {tag: float(value) for tag, value in report.metrics.items()},
        }
        if report.texts:
            row["texts"] = {tag: whole_characters(text) for tag, text in report.texts.items()}
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
        """The report's checkpoint. ``check`` (at the first report) raises if it could not be loaded."""
        assert report.checkpoint is not None
        state = report.checkpoint()
        if check:
            require_loadable(state)
            if PROGRESS in state:
                raise ValueError(f"a checkpoint must not have the key {PROGRESS!r}: rename it")
        return {"kind": _name(self._train), **state}

    def _save_or_go_on(self) -> None:
        """Save, but continue if storage fails: only the end of a trial needs its checkpoint."""
        try:
            self._save()
        except OSError as error:
            self._saved = time.monotonic()
            self._say_not_written(error)
        except TrialFilesTaken as error:
            self.failure = error

    def _say_not_written(self, error: Exception) -> None:
        print(f"checkpoint {self._spec.checkpoints} not written: {error}", file=sys.stderr)

    def _save(self) -> None:
        """Write the newest state that there is, and the best one if it is new.

        The state is that of the last report, if it has a checkpoint that can still be built; otherwise
        that of the best report. ``TrialFiles.save`` has the order of the writes.
        """
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
        # Every report up to this state that the driver may not have on its disk goes with it: if both
        # processes die now, whoever resumes the trial records them before training continues.
        rows = [*(row for _, row in self._acknowledged), *self._sent, *self._new]
        progress: Progress = {
            "step": step,
            "seconds": seconds,
            "best": self._best,
            "has_metric": self._has_metric,
            "unacknowledged": [row_as_tensors(row) for row in rows if row["step"] <= step],
        }
        try:
            self._files.save(last_content(state, progress), best)
        except BaseException:  # also Ctrl-C: close() tries once more
            self._unsaved = True
            raise
        self._best_bytes = None  # only now: a save that failed is repeated with it
        self._saved = time.monotonic()

    def _fail(self, error: BaseException) -> None:
        """Keep the error, and save the best checkpoint so far."""
        self.failure = error
        if not isinstance(error, TrialFilesTaken):
            try:
                self._save()
            except Exception as further:  # the first error is the one that counts
                self._say_not_written(further)

    def _require_reports(self) -> None:
        """Raise at the end of a trial that made no report, or none with the metric."""
        if self._last is None and not self._resumed:
            raise ValueError(f"{_name(self._train)} ended without a report")
        metric = self._grid.objective.metric
        if metric is not None and not self._has_metric:
            raise ValueError(
                f"no report of the trial has the metric {metric!r}, which selects the best one; its"
                f" metrics are {', '.join(sorted(self._tags)) or 'none'}"
            )

    def _acknowledge(self) -> None:
        """Drop the reports of the last step: a caller that asks for another one has recorded them."""
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


def _name(function: Any) -> str:
    """``module.function``; of a partial, that of the function which it calls."""
    function = getattr(function, "func", function)
    return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', function)}"
