"""Which trial of a grid is next."""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import FIFOScheduler

from labs.runtime.machine import compat


class GridOrder(FIFOScheduler):
    """Trials in the grid's order, but for those that have a process of their own on the way.

    Tune (2.54.1 to 2.60.0) gives a process that is free to the first trial that waits, and then ends the
    process that was starting for that trial. A start takes seconds: of trials that are shorter than that,
    one process would run all, while the other cores start processes for nothing.
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
