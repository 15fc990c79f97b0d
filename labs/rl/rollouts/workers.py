"""Rollout workers: collectors in this process, or one per Ray actor."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import ray
import torch
from ray.exceptions import ObjectLostError, RayActorError, RayTaskError

from labs.rl.agents.segments import Segment, concatenate
from labs.rl.agents.trainer import Rollouts
from labs.rl.rollouts.collector import Collector, CollectorSpec
from labs.runtime.errors import InputError
from labs.runtime.machine.session import in_local_mode
from labs.runtime.output.capture import TrialOutput, output

MAX_DEATHS = 3
"""Deaths of a worker in a row, with no segment in between, after which training fails."""

CollectorState = dict[str, Any] | None


def make_rollouts(spec: CollectorSpec, num_workers: int) -> Rollouts:
    """``num_workers`` Ray actors; collectors in this process without workers or in local mode.

    Raises:
        InputError: the environment cannot be made.
        RuntimeError: ``num_workers`` is not 0 and Ray is not running.
    """
    if num_workers == 0 or in_local_mode():
        return InProcess([Collector(spec, index) for index in range(max(1, num_workers))])
    if not ray.is_initialized():
        raise RuntimeError(
            "rollout workers need Ray: train inside labs.runtime.machine.session.connect"
        )
    return Workers(spec, num_workers)


class InProcess:
    """Collectors that run one after another in this process."""

    replaced = 0

    def __init__(self, collectors: list[Collector]) -> None:
        self._collectors = collectors

    def gather(self, parameters: np.ndarray, version: int) -> Segment:
        """The collectors' segments side by side: ``[time, all environments]``."""
        return concatenate([c.collect(parameters, version) for c in self._collectors])

    def next(self, parameters: np.ndarray, version: int, epsilon: float) -> Segment:
        """The collectors take turns; the segment is always collected with exactly these parameters."""
        collector = self._collectors.pop(0)
        self._collectors.append(collector)
        return collector.collect(parameters, version, epsilon)

    def get_state(self) -> list[CollectorState]:
        """In the order of their turns, so that the state need not say whose turn it is."""
        return [collector.get_state() for collector in self._collectors]

    def set_state(self, states: list[CollectorState]) -> None:
        """Restore what ``get_state`` of the same number of collectors returned."""
        for collector, state in zip(self._collectors, states, strict=True):
            if state is not None:
                collector.set_state(state)

    def close(self) -> None:
        """Close all environments."""
        for collector in self._collectors:
            collector.close()


class RolloutWorker:
    """A collector in its own process."""

    def __init__(
        self, spec: CollectorSpec, index: int, replacements: int, trial: TrialOutput = None
    ) -> None:
        output.join(trial)
        torch.set_num_threads(1)  # each worker has one core
        self._collector = Collector(spec, index, replacements)

    def collect(self, parameters: np.ndarray, version: int, epsilon: float) -> Segment:
        """The next segment; ``parameters`` are float32, from the object store."""
        return self._collector.collect(parameters, version, epsilon)

    def get_state(self) -> dict[str, Any]:
        """The collector's state."""
        return self._collector.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore a collector's state."""
        self._collector.set_state(state)

    def process_id(self) -> int:
        """Used by tests that kill it."""
        return os.getpid()


_Actor: Any = ray.remote(num_cpus=1, max_restarts=0)(RolloutWorker)


class _Slot:
    """The place of one worker: its present actor, and the segment that this is collecting."""

    def __init__(self, spec: CollectorSpec, index: int) -> None:
        self._spec = spec
        self._index = index
        self._replacements = 0
        self._deaths = 0
        self._request: tuple[Any, ...] = ()
        self.pending: ray.ObjectRef[Any] | None = None
        self.actor = _Actor.remote(spec, index, 0, output.trial)

    def submit(self, *request: Any) -> None:
        self._request = request
        self.pending = self.actor.collect.remote(*request)

    def take(self, on_death: Callable[[], None]) -> Segment | None:
        """The pending segment; None if the worker died and a new one got the request again."""
        try:
            segment: Segment = ray.get(self._required())
        except (RayActorError, ObjectLostError) as error:
            self._deaths += 1
            if self._deaths >= MAX_DEATHS:
                raise RuntimeError(
                    f"rollout worker {self._index} died {MAX_DEATHS} times in a row: {error}"
                ) from error
            # The number of replacements is part of the new worker's seed: it starts new episodes.
            self._replacements += 1
            self.actor = _Actor.remote(self._spec, self._index, self._replacements, output.trial)
            on_death()
            self.submit(*self._request)
            return None
        except RayTaskError as error:
            if isinstance(error.cause, InputError):  # without the worker's traceback
                raise InputError(str(error.cause)) from None
            raise
        self._deaths = 0
        self.pending = None
        return segment

    def _required(self) -> ray.ObjectRef[Any]:
        assert self.pending is not None, "nothing was submitted"
        return self.pending


class Workers:
    """One Ray actor per worker. One that dies is replaced, and only its present segment is lost."""

    def __init__(self, spec: CollectorSpec, num_workers: int) -> None:
        self.replaced = 0
        self._slots = [_Slot(spec, index) for index in range(num_workers)]
        self._queue: list[_Slot] = []
        self._stored: tuple[int, ray.ObjectRef[Any]] | None = None

    def gather(self, parameters: np.ndarray, version: int) -> Segment:
        """Waits for all workers; the environments are in the order of the workers."""
        stored = self._put(parameters, version)
        for slot in self._slots:  # all start before the first result is waited for
            slot.submit(stored, version, 0.0)
        return concatenate([self._wait(slot) for slot in self._slots])

    def next(self, parameters: np.ndarray, version: int, epsilon: float) -> Segment:
        """The worker starts on its next segment at once, and collects while the learner learns."""
        request = (self._put(parameters, version), version, epsilon)
        for slot in self._slots:
            if slot.pending is None:
                slot.submit(*request)
                self._queue.append(slot)
        while True:
            ready, _ = ray.wait([slot.pending for slot in self._queue], num_returns=1)
            slot = next(slot for slot in self._queue if slot.pending == ready[0])
            segment = slot.take(self._count_death)
            if segment is not None:
                # Move it to the end: ray.wait prefers the first ones, and others would starve.
                self._queue.remove(slot)
                self._queue.append(slot)
                slot.submit(*request)
                return segment

    def get_state(self) -> list[CollectorState]:
        """Every worker's state; None for one that has just died."""
        # An actor runs its calls in order, so this waits for the segments that are being collected.
        states: list[CollectorState] = []
        for future in [slot.actor.get_state.remote() for slot in self._slots]:
            try:
                states.append(ray.get(future))
            except RayActorError:  # `take` replaces it when its next segment is due
                states.append(None)
        return states

    def set_state(self, states: list[CollectorState]) -> None:
        """Restore what ``get_state`` of the same number of workers returned."""
        ray.get(
            [
                slot.actor.set_state.remote(state)
                for slot, state in zip(self._slots, states, strict=True)
                if state is not None
            ]
        )

    def process_ids(self) -> list[int]:
        """Process ids, in the order of the workers."""
        return ray.get([slot.actor.process_id.remote() for slot in self._slots])

    def close(self) -> None:
        """Kill the actors."""
        for slot in self._slots:
            ray.kill(slot.actor)

    def _put(self, parameters: np.ndarray, version: int) -> ray.ObjectRef[Any]:
        """One copy in the object store per version, for any number of workers."""
        if self._stored is None or self._stored[0] != version:
            self._stored = (version, ray.put(parameters))
        return self._stored[1]

    def _wait(self, slot: _Slot) -> Segment:
        while (segment := slot.take(self._count_death)) is None:
            pass
        return segment

    def _count_death(self) -> None:
        self.replaced += 1
