"""The driver's record of a grid: logs and shows its trials, and writes the table. No Ray."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

import pandas as pd

from labs.runtime.directory.files import GridFiles
from labs.runtime.directory.identity import varying_fields
from labs.runtime.directory.lease import LeaseLost
from labs.runtime.directory.runs import Run
from labs.runtime.directory.storage import RETRY_SECONDS, retry_io
from labs.runtime.directory.tracking import (
    HparamsPage,
    TrialLog,
    read_history,
    read_state,
    selected_report,
    write_state,
)
from labs.runtime.directory.trial_files import Progress, TrialFiles
from labs.runtime.errors import InputError
from labs.runtime.loop.console import GridConsole, say
from labs.runtime.machine.memory import PeakMemory
from labs.runtime.output.collector import Collector
from labs.runtime.output.log_file import Limiter, LogFile, log_path
from labs.runtime.reports import Objective
from labs.runtime.results import DONE, FAILED, INTERRUPTED, OVER, RUNNING, STOPPED, GridResult
from labs.runtime.trial import StepResult

TABLE_SECONDS = 5.0
"""Least interval between two writes of ``results.csv``; it is also at least 50 times as long as one."""


class Recorder:
    """Records the events of a grid's trials, inside a ``with`` block.

    Trials are identified by their number. The order of events is: :meth:`started`, :meth:`reported`
    any number of times, then :meth:`retried` (and all of it again), :meth:`failed` or :meth:`ended`.
    """

    def __init__(
        self, names: Sequence[str], configs: Sequence[Any], run: Run, objective: Objective
    ) -> None:
        self.slots = 1
        self.live = True
        self.costs: Mapping[int, float] = {}
        """How long each unfinished trial takes, in any unit; empty where nobody knows."""
        self._objective = objective
        self._names, self._run = names, run
        self._configs = [dataclasses.asdict(config) for config in configs]
        self._page = HparamsPage(
            run.path / "tensorboard" / "summary",
            self._configs,
            varying_fields(self._configs),
            objective.metric,
        )
        self._files = GridFiles(names, self._configs, run.path, run.checkpoints, objective)
        self._directories = [self._files.directory(index) for index in range(len(names))]
        self._logs: dict[int, TrialLog] = {}
        self._unwritten: list[TrialLog] = []
        """Logs of trials that have ended while the disk was full."""
        self._disk_fails = False
        self._failures: dict[int, str] = {}
        self._completed: set[int] = set()
        self._console: GridConsole | None = None
        self._warned_missing_metric = False
        self._rows: dict[int, dict[str, Any]] = {}
        """Table rows of the trials that have ended."""
        self._next_table = 0.0
        states = [read_state(directory) for directory in self._directories]
        self._stopped_now: set[int] = set()
        self._last_steps = [objective.last_step_of(config) for config in configs]
        self._last_events: dict[int, float] = {}
        """When each running trial started or last reported."""
        self.unfinished = [i for i, state in enumerate(states) if state.get("status") not in OVER]
        self._memory = PeakMemory()
        for index in self.unfinished:
            # The trial continues from that session's checkpoint, so its peak counts as well.
            if "memory" in states[index]:
                self._memory.add(index, states[index]["memory"])

    def __enter__(self) -> Self:
        done = len(self._names) - len(self.unfinished)
        if done:
            say(f"{done} of {len(self._names)} trials are already finished")
        for index in set(range(len(self._names))) - set(self.unfinished):
            history = read_history(self._directories[index])
            self._rows[index] = self._files.row(index, history)
            self._page.add([tag for report in history[-1:] for tag in report["metrics"]])
        self._console = GridConsole(
            list(self._names),
            self.slots,
            self._objective,
            done,
            live=self.live,
            last_steps=self._last_steps,
            costs=self.costs,
        )
        self._console.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """A trial that has not ended by now was interrupted."""
        if self._run.lease.taken_by is not None:  # the files belong to another driver now
            self._show().__exit__()
            return
        for index, log in list(self._logs.items()):
            best = self._catch_up_with(index, log)
            log.finish(INTERRUPTED, "interrupted before its end", best, self._memory.of(index))
            self._unwritten.append(log)
            del self._logs[index]
        self._confirm_stopped()
        assert self._console is not None
        self._console.__exit__()
        # The last chance to write. If it fails, the error says how to resume: the trials' checkpoints
        # have their newest reports.
        with self._run.resume_hint():
            retry_io(self._write_unwritten, timeout=RETRY_SECONDS / 3)

    def started(self, index: int) -> None:
        """The trial has started, for the first time or again."""
        self._last_events[index] = time.monotonic()
        self._open(index)
        self._show().started(index)

    def reported(self, index: int, result: StepResult) -> None:
        """Log the reports, show the last one, and keep a failure."""
        if not self._may_write():
            return
        reports = result["reports"]
        self._memory.add(index, result["memory"])
        self._last_events[index] = time.monotonic()
        log = self._logs[index]
        # On disk (while it is full, in memory) before this returns: the loop then asks for the next
        # step, which acknowledges the reports.
        log.add(reports, result["best_step"])
        self._watch_disk(log)
        if reports:
            last = reports[-1]
            self._page.add(last["metrics"])
            self._show().reported(index, last["step"], last["metrics"])
            self._warn_missing_metric(index, last["metrics"])
        if result["failure"] is not None:
            self._failures[index] = result["failure"]["error"]
            with contextlib.suppress(OSError):  # the table also has the error
                path = self._directories[index] / "error.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(result["failure"]["traceback"], encoding="utf-8")
        if result["completed"]:
            self._completed.add(index)
        self._write_table()

    def retried(self, index: int, reason: str) -> None:
        """The trial starts again from its last checkpoint.

        Args:
            reason: why its process died, if the trial did not report a failure.
        """
        self._show().retried(index, self._failure_of(index, reason))

    def failed(self, index: int, reason: str) -> None:
        """The trial has failed and is not started again."""
        if not self._may_write():
            return
        self._open(index)  # its process may have failed before the trial started
        error = self._failure_of(index, reason)
        best: int | None = None
        with contextlib.suppress(OSError, InputError):
            files = TrialFiles(self._run.checkpoints / self._names[index])
            # The process is dead, so claim() here finishes a save that it may have left half done.
            best = self._add_progress(self._logs[index], files.claim()[1])
        self._finish(index, FAILED, best, error)

    def ended(self, index: int) -> None:
        """The trial has reached its end, or a scheduler has stopped it."""
        if not self._may_write():
            return
        self._open(index)
        status = DONE if index in self._completed else STOPPED
        if status == STOPPED:  # it may still save, see _confirm_stopped
            self._stopped_now.add(index)
        self._finish(index, status, self._logs[index].best_step)

    def collector(self) -> Collector:
        """A collector that writes the output of the trials' processes into the run's directory."""
        return Collector(self._run.path, lambda: self._run.lease.taken_by is None)

    def log_file(self, index: int) -> LogFile:
        """The log of a trial that runs in this process."""
        return LogFile(log_path(self._run.path, self._names[index]), Limiter())

    def record(self, index: int) -> tuple[str | None, list[dict[str, Any]]]:
        """A trial's status (None if it has not ended) and its reports, from disk."""
        directory = self._directories[index]
        return read_state(directory).get("status"), read_history(directory)

    def result(self) -> GridResult:
        """The table and the history of all trials, from their directories."""
        return self._files.result()

    def _failure_of(self, index: int, reason: str) -> str:
        """Why a trial failed: its own error, a timeout, or else ``reason``."""
        own = self._failures.pop(
            index, None
        )  # of this attempt only: the next one may fail otherwise
        timeout = self._run.options.trial_timeout
        silent = time.monotonic() - self._last_events.get(index, time.monotonic())
        if own is None and timeout is not None and silent >= timeout:
            return f"no report for {timeout:g} s (--trial-timeout): its process was killed"
        return own or reason

    def _may_write(self) -> bool:
        """Whether this driver still holds the run's lease."""
        try:
            self._run.lease.require()
        except LeaseLost:
            return False
        return True

    def _show(self) -> GridConsole:
        assert self._console is not None, "outside of the with block"
        return self._console

    def _open(self, index: int) -> None:
        if index not in self._logs:
            self._logs[index] = TrialLog(
                self._directories[index], self._configs[index], self._objective
            )

    def _finish(self, index: int, status: str, best: int | None, error: str = "") -> None:
        log = self._logs.pop(index)
        memory = self._memory.of(index)
        log.finish(status, error, best, memory)
        if log.write_error:
            self._unwritten.append(log)
        self._watch_disk(log)
        row = selected_report(log.history, self._objective, best)
        value = self._objective.value(row["metrics"]) if row else None
        self._show().ended(index, status, value, error)
        if status == DONE and (advice := self._memory.advice(index, self._names[index])):
            say(advice)
        state = {"status": status, "error": error, "best_step": best, "memory": memory}
        self._rows[index] = self._files.row(index, log.history, state)
        self._write_table()

    def _catch_up_with(self, index: int, log: TrialLog) -> int | None:
        """Add the reports that an interrupted trial saved, but could not send; the step of its best."""
        with contextlib.suppress(OSError, InputError):
            files = TrialFiles(self._run.checkpoints / self._names[index])
            return self._add_progress(log, files.read()[1])
        return None

    def _confirm_stopped(self) -> None:
        """Correct the best steps of stopped trials, whose last save came after their last report.

        If that save failed, the best checkpoint on disk is an older one, and so must be the table's row.
        On an object store this is not checked, since it would take long to read all checkpoints.
        """
        for index in self._stopped_now:
            files = TrialFiles(self._run.checkpoints / self._names[index])
            if files.last.local is None:
                continue
            with contextlib.suppress(OSError, InputError):
                progress = files.read()[1]
                best = progress["best"][1] if progress and progress["best"] else None
                state = read_state(self._directories[index])
                if state and state["best_step"] != best:
                    write_state(self._directories[index], {**state, "best_step": best})

    @staticmethod
    def _add_progress(log: TrialLog, progress: Progress | None) -> int | None:
        """Add the reports that a trial's ``last.pt`` contains; the step of its best checkpoint."""
        if progress is None:
            return None
        log.add(progress["unacknowledged"])
        return None if progress["best"] is None else progress["best"][1]

    def _warn_missing_metric(self, index: int, metrics: Mapping[str, float]) -> None:
        metric, due = self._objective.metric, self._objective.in_every_report
        if metric is None or not due or metric in metrics or self._warned_missing_metric:
            return
        self._warned_missing_metric = True
        say(
            f"{metric} is not among the metrics that {self._names[index]} has reported so far:"
            f" {', '.join(sorted(metrics)) or 'none'}"
        )

    def _write_unwritten(self) -> None:
        """Try again to write the logs of trials that have ended. Raises OSError if one fails."""
        for log in self._unwritten:
            log.write()
        self._unwritten = [log for log in self._unwritten if log.write_error]
        error = next((log.write_error for log in self._unwritten), None)
        if error is not None:
            raise error

    def _watch_disk(self, log: TrialLog) -> None:
        """Print a line when results cannot be written, and one when they can again."""
        with contextlib.suppress(OSError):
            self._write_unwritten()
        error = log.write_error or next((other.write_error for other in self._unwritten), None)
        if error is not None and not self._disk_fails:
            reason = error.strerror or error
            say(
                f"cannot write to {self._run.path} ({reason}): results stay in memory until it works"
            )
        elif self._disk_fails and error is None:
            say(f"results are written to {self._run.path} again")
        self._disk_fails = error is not None

    def _write_table(self) -> None:
        """Write ``results.csv`` with the trials that have started, while the run goes on."""
        if time.monotonic() < self._next_table:
            return
        begun = time.monotonic()
        rows = dict(self._rows)
        for index, log in self._logs.items():
            memory = self._memory.of(index)
            state = {"status": RUNNING, "best_step": log.best_step, "memory": memory}
            rows[index] = self._files.row(index, log.history, state)
        with contextlib.suppress(OSError):  # it is written again, at the latest at the end
            self._run.add_table("results", pd.DataFrame([rows[i] for i in sorted(rows)]), False)
        now = time.monotonic()
        self._next_table = now + max(TABLE_SECONDS, 50 * (now - begun))  # at most 2% of the time
