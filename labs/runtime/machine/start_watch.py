"""What keeps the trials of a grid from starting, said while none runs."""

from __future__ import annotations

from typing import Any

from ray import tune

from labs.runtime.loop.console import say
from labs.runtime.loop.waiting import Pauses
from labs.runtime.machine import compat
from labs.runtime.machine.resources import (
    Resources,
    alive_nodes,
    concurrent_trials,
    reserve_kinds,
    reserve_request,
)


class StartWatch(tune.Callback):
    """A Tune callback that says what is waited for while no trial of a grid runs.

    Where machines of the other kinds cannot be started (no spot capacity), it asks for one of a kind
    that stands behind them, so that the sweep goes on. It asks until a trial runs: Ray would keep a
    machine that is asked for even when it is idle.
    """

    def __init__(self, request: Resources, pauses: Pauses | None = None) -> None:
        self._request = request
        self._pauses = pauses or Pauses()
        self._asked = False

    def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
        return (tune.Callback, ())  # Tune pickles its callbacks; this one is of use here only

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Tune calls it about ten times a second, also where nothing happens."""
        if any(trial.status == "RUNNING" for trial in trials):
            self._pauses.restart()
            self._ask_no_more()
            return
        seconds = self._pauses.due()
        if seconds is not None:
            say(
                f"no trial has started for {seconds:.0f} s: waiting for {waited_for(self._request)}"
            )
            self._fall_back()

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """The grid has ended, with or without a trial that ran."""
        self._ask_no_more()

    def _fall_back(self) -> None:
        if self._asked:
            return
        failed = compat.failed_launches()
        chosen = reserve_request(self._request, failed, reserve_kinds())
        if chosen is not None:
            kind, bundle = chosen
            compat.ask_for_machines([bundle])
            self._asked = True
            say(f"no machine of {' or '.join(failed)} can be started: asking for one of {kind}")

    def _ask_no_more(self) -> None:
        if self._asked:
            compat.ask_for_machines([])
            self._asked = False


def waited_for(request: Resources) -> str:
    """What keeps a trial with this request from starting, as far as Ray tells."""
    nodes = alive_nodes()
    if concurrent_trials(request, nodes) == 0:
        text = f"a machine with room for {request}; the cluster is growing"
        failures = compat.failed_launches()
        reasons = [f"{kind}: {reason}" for kind, reason in failures.items()]
        error = "; ".join(reasons) or compat.autoscaler_error()
        return text + (f"; the autoscaler says: {error}" if error else "")
    free = compat.free_nodes()
    if concurrent_trials(request, free) == 0 and compat.has_pending_groups():
        kinds = ["CPU"] + ["GPU"] * bool(request.gpus)
        counts = [
            f"{sum(n.get(k, 0) for n in free):g} of {sum(n.get(k, 0) for n in nodes):g} {k}"
            for k in kinds
        ]
        return f"{request}: only {' and '.join(counts)} are free, others hold the rest"
    return "the processes of the first trials to start"
