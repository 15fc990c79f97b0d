"""Messages on why no trial of a grid has started yet."""

from __future__ import annotations

from typing import Any

import ray
from ray import tune
from ray.util.placement_group import PlacementGroup

from labs.runtime.loop.console import say
from labs.runtime.loop.waiting import Pauses
from labs.runtime.machine import compat
from labs.runtime.machine.resources import (
    RESERVE,
    Resources,
    alive_nodes,
    concurrent_trials,
    reserve_kinds,
    reserve_request,
)


class StartWatch(tune.Callback):
    """A Tune callback that prints what is being waited for while no trial of a grid runs.

    If the other kinds of machines cannot be started (no spot capacity), it requests one of the reserve,
    so that the sweep can start, until a trial runs. The request is a placement group: Ray removes it when
    this process ends, however it ends. (``request_resources`` of the autoscaler would outlive a killed
    process, and keep a machine at the full price.)
    """

    def __init__(self, request: Resources, pauses: Pauses | None = None) -> None:
        self._request = request
        self._pauses = pauses or Pauses()
        self._reserved: PlacementGroup | None = None

    def __reduce__(self) -> tuple[type[tune.Callback], tuple[()]]:
        return (
            tune.Callback,
            (),
        )  # Tune (2.54.1) pickles its callbacks; this one is used only here

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Tune calls it about ten times a second, also when nothing happens."""
        if any(trial.status == "RUNNING" for trial in trials):
            self._pauses.restart()
            self._release()
            return
        self._make_room()
        seconds = self._pauses.due()
        if seconds is not None:
            say(
                f"no trial has started for {seconds:.0f} s: waiting for {waited_for(self._request)}"
            )
            self._fall_back()

    def on_experiment_end(self, trials: list[Any], **info: Any) -> None:
        """The grid has ended, whether any trial ran or not."""
        self._release()

    def _fall_back(self) -> None:
        if self._reserved is not None:
            return
        failed = compat.failed_launches()
        chosen = reserve_request(self._request, failed, reserve_kinds())
        if chosen is not None:
            kind, bundle = chosen
            self._reserved = ray.util.placement_group([bundle])
            say(f"no machine of {' or '.join(failed)} can be started: requesting one of {kind}")

    def _make_room(self) -> None:
        """Leave the requested machine to the trials when it is there.

        What marks it stays reserved until a trial runs, so that the machine does not count as idle.
        """
        group = self._reserved
        if group is None or group.bundle_specs == [{RESERVE: 1.0}]:
            return
        if ray.util.placement_group_table(group)["state"] == "CREATED":
            ray.util.remove_placement_group(group)
            self._reserved = ray.util.placement_group([{RESERVE: 1.0}])

    def _release(self) -> None:
        if self._reserved is not None:
            ray.util.remove_placement_group(self._reserved)
            self._reserved = None


def waited_for(request: Resources) -> str:
    """What a trial with this request is waiting for, as far as Ray knows."""
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
        return f"{request}: only {' and '.join(counts)} are free, the rest is in use"
    return "the processes of the first trials to start"
