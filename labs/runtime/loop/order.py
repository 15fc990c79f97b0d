"""Which trial of a grid is next."""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import FIFOScheduler

from labs.runtime.machine import compat


class GridOrder(FIFOScheduler):
    """Trials in the grid's order; a trial whose own process is starting waits for that process.

    Tune (2.54.1 to 2.60.0) gives a free process to the first waiting trial, and ends the process that was
    starting for this trial. A start takes seconds. With shorter trials one process would run all of
    them, while the other cores do nothing but start processes.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Ray

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The first trial without a process, or else the first one; ``None`` if none waits."""
        waiting = compat.waiting_trials(tune_controller)
        without = [trial for trial, starting in waiting if not starting]
        return next(iter(without or [trial for trial, _ in waiting]), None)

    def debug_string(self) -> str:
        """The description that Tune would print."""
        return "in the grid's order"
