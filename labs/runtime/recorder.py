"""Hears of every trial of a grid from Tune: logs it, shows it, and makes the table."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pandas as pd
from ray import tune

from labs.runtime.console import GridConsole, say
from labs.runtime.reports import Objective
from labs.runtime.results import DONE, FAILED, INTERRUPTED, OVER, STOPPED, GridResult
from labs.runtime.runs import Run
from labs.runtime.storage import RETRY_SECONDS, retry_io
from labs.runtime.tracking import TrialLog, read_history, read_state


class Recorder(tune.Callback):
    """A Tune callback that feeds the trials' logs and the console, for the time of a ``with``."""

    def __init__(
        self,
        names: list[str],
        configs: Sequence[Any],
        run: Run,
        objective: Objective,
    ) -> None:
        self.slots = 1
        self._names, self._configs, self._run = names, configs, run
        self._objective = objective
        self._directories = [run.path / "tensorboard" / name for name in names]
        self._logs: dict[int, TrialLog] = {}
        self._late: list[TrialLog] = []
        """Logs of trials that have ended, for which the disk had no room."""
        self._disk_fails = False
        self._failures: dict[int, str] = {}
        self._completed: set[int] = set()
        self._console: GridConsole | None = None
        states = [read_state(directory).get("status") for directory in self._directories]
        self.unfinished = [i for i, status in enumerate(states) if status not in OVER]

    def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
        return (tune.Callback, ())  # Tune pickles its callbacks; open logs stay in the driver

    def __enter__(self) -> Self:
        done = len(self._names) - len(self.unfinished)
        if done:
            say(f"{done} of {len(self._names)} trials are finished already")
        self._console = GridConsole(self._names, self.slots, self._objective, done)
        self._console.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Whatever has not ended by now was interrupted."""
        for index, log in list(self._logs.items()):
            log.finish(INTERRUPTED, "interrupted before its end")
            self._late.append(log)
            del self._logs[index]
        assert self._console is not None
        self._console.__exit__()
        with self._run.naming_the_way_on():
            retry_io(self._catch_up, timeout=RETRY_SECONDS / 3)

    def _catch_up(self) -> None:
        """Write what there was no room for. Raises OSError where there still is none."""
        for log in self._late:
            log.write()
        self._late = [log for log in self._late if log.write_error]
        error = next((log.write_error for log in self._late), None)
        if error is not None:
            raise error

    def _watch_disk(self, log: TrialLog) -> None:
        """Say once that results cannot be written, and once that they are."""
        with contextlib.suppress(OSError):
            self._catch_up()
        error = log.write_error or next((late.write_error for late in self._late), None)
        if error is not None and not self._disk_fails:
            reason = error.strerror or error
            say(
                f"cannot write to {self._run.path} ({reason}): results are kept in memory until it is"
            )
        elif self._disk_fails and error is None:
            say(f"results are written to {self._run.path} again")
        self._disk_fails = error is not None

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Open the trial's log, unless this is a retry."""
        index = trial.config["index"]
        self._open(index)
        self._console.started(index)

    def _open(self, index: int) -> None:
        if index not in self._logs:
            hyperparameters = dataclasses.asdict(self._configs[index])
            self._logs[index] = TrialLog(self._directories[index], hyperparameters)

    def on_trial_result(
        self, iteration: int, trials: list, trial: Any, result: dict, **info: Any
    ) -> None:
        """Log the reports, show the last, remember a failure."""
        index = trial.config["index"]
        reports = result["reports"]
        self._logs[index].add(reports)
        self._watch_disk(self._logs[index])
        if reports:
            self._console.reported(index, reports[-1]["step"], reports[-1]["metrics"])
        if "failure" in result:
            self._failures[index] = result["failure"]["error"]
            with contextlib.suppress(OSError):  # the table has the error, too
                path = self._directories[index] / "error.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(result["failure"]["traceback"])
        # asha stops a trial at its last step, before it can say that it is complete
        last_step = reports[-1]["step"] if reports else 0
        end = self._objective.last_step
        if result["completed"] or (end is not None and last_step >= end):
            self._completed.add(index)

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """The trial begins again from its last checkpoint."""
        index = trial.config["index"]
        self._console.retried(index, self._failures.pop(index, None) or _reason(trial))

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """The trial has failed for good."""
        index = trial.config["index"]
        self._finish(index, FAILED, self._failures.pop(index, None) or _reason(trial))

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """The trial has reached its end, or asha has stopped it."""
        index = trial.config["index"]
        self._finish(index, DONE if index in self._completed else STOPPED)

    def _finish(self, index: int, status: str, error: str = "") -> None:
        self._open(index)  # its process may have failed before the trial began
        log = self._logs.pop(index)
        log.finish(status, error)
        if log.write_error:
            self._late.append(log)
        self._watch_disk(log)
        row = selected_report(log.history, self._objective)
        value = self._objective.value(row["metrics"]) if row else None
        self._console.ended(index, status, value, error)

    def result(self) -> GridResult:
        """The table and the history of all trials, read back from their directories."""
        rows, history = [], []
        for index, (name, config) in enumerate(zip(self._names, self._configs)):
            reports = read_history(self._directories[index])
            state = read_state(self._directories[index])
            best = selected_report(reports, self._objective)
            row = {"trial": index, "name": name, **dataclasses.asdict(config)}
            row |= {"status": state.get("status", INTERRUPTED), "error": state.get("error", "")}
            row["step"] = best["step"] if best else None
            row["seconds"] = reports[-1]["seconds"] if reports else None
            row |= best["metrics"] if best else {}
            row["checkpoint"] = self._checkpoint(name)
            rows.append(row)
            for report in reports:
                times = {"trial": index, "step": report["step"], "seconds": report["seconds"]}
                history.append(times | report["metrics"])
        columns = None if history else ["trial", "step", "seconds"]
        return GridResult(
            pd.DataFrame(rows), pd.DataFrame(history, columns=columns), self._objective
        )

    def _checkpoint(self, name: str) -> str | None:
        for file in ("best.pt", "last.pt"):
            path = self._run.checkpoints / name / file
            if path.local is None or path.local.exists():
                return str(path)
        return None


def selected_report(
    history: Sequence[dict[str, Any]], objective: Objective
) -> dict[str, Any] | None:
    """The first report with the best value of the metric; the last one where nothing selects."""
    best: dict[str, Any] | None = None
    best_value: float | None = None
    for report in history:
        value = objective.value(report["metrics"])
        if value is not None and objective.is_better(value, best_value):
            best, best_value = report, value
    return best or (history[-1] if history else None)


def _reason(trial: Any) -> str:
    """Why a process ended without a report of a failure, as far as Tune's notes tell."""
    with contextlib.suppress(OSError):
        text = Path(trial.error_file).read_text().rpartition("Failure #")[2].strip()
        if "in its creation task" in text:  # for instance a module that its machine lacks
            return text.splitlines()[-1].strip()
    return "its process died (out of memory, or killed)"
