"""Running a grid's trials in this process, one after another and without Ray, for breakpoints."""

from __future__ import annotations

import bdb
import threading
from collections.abc import Mapping
from typing import Any

from labs.runtime.directory.recorder import Recorder
from labs.runtime.loop import signals
from labs.runtime.loop.console import say
from labs.runtime.output.log_file import LogFile
from labs.runtime.output.tee import logged
from labs.runtime.trial import GridSpec, StepResult, TrialRunner


def run_here(
    grid: GridSpec, shared: Mapping[str, Any], recorder: Recorder, max_failures: int = 0
) -> None:
    """Run the recorder's unfinished trials.

    The first SIGINT ends the run after the present report. Leaving the debugger (``q``) ends the run at
    once, and not only the trial, because the next trial would stop at the same breakpoint.
    """
    stopped = threading.Event()
    with recorder, signals.stopping(stopped.set):
        for index in recorder.unfinished:
            try:
                _run_trial(grid, index, shared, recorder, max_failures, stopped)
            except bdb.BdbQuit:
                say("left the debugger: the run ends here")
                break
            if stopped.is_set():
                break


def _run_trial(
    grid: GridSpec,
    index: int,
    shared: Mapping[str, Any],
    recorder: Recorder,
    max_failures: int,
    stopped: threading.Event,
) -> None:
    for failures in range(max_failures + 1):
        runner = TrialRunner(grid, index, shared)
        log = recorder.log_file(index)
        recorder.started(index)
        try:
            result = _step(runner, log)
            recorder.reported(index, result)
            while not (result["done"] or result["failure"] or stopped.is_set()):
                result = _step(runner, log)
                recorder.reported(index, result)
        finally:
            with logged(log):
                runner.close()
            log.write(b"", last=True)
        if result["done"]:
            recorder.ended(index)
        if not result["failure"]:
            return
        if failures < max_failures and not stopped.is_set():
            recorder.retried(index, "")
        else:
            recorder.failed(index, "")
            return


def _step(runner: TrialRunner, log: LogFile) -> StepResult:
    with logged(log):
        return runner.step()
