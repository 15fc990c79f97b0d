"""What an algorithm is made of: a learner, where its segments come from, and how the two alternate."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from labs.rl.agents.policies import PolicySpec
from labs.rl.agents.segments import Segment


class Learner(Protocol):
    """What training asks of an algorithm's parameters."""

    @property
    def spec(self) -> PolicySpec:
        """The architecture of the policy that acts."""

    @property
    def version(self) -> int:
        """Counts the changes of the parameters."""

    def actor_parameters(self) -> np.ndarray:
        """A copy of what a ``Policy`` of ``spec`` loads, float32 and flat."""


class Rollouts(Protocol):
    """Where segments come from: environments in this process, or in workers."""

    replaced: int
    """Workers that died and were replaced so far."""

    def gather(self, parameters: np.ndarray, version: int) -> Segment:
        """One segment of all environments together, collected with these very parameters."""

    def next(self, parameters: np.ndarray, version: int, epsilon: float) -> Segment:
        """The next segment that is ready, perhaps of older parameters (see its ``version``)."""

    def get_state(self) -> list[dict[str, Any] | None]:
        """Every collector's state, for a checkpoint; None for a worker that cannot tell."""

    def set_state(self, states: list[dict[str, Any] | None]) -> None:
        """Go on from ``get_state``. A collector without a state begins anew."""

    def close(self) -> None:
        """End the collectors."""


class Trainer(Protocol):
    """An algorithm's way to alternate between collecting and learning."""

    @property
    def learner(self) -> Learner:
        """Whose parameters act, are evaluated and saved."""

    def collect(self, rollouts: Rollouts, progress: float) -> Segment:
        """The next segment; ``progress`` is the part of the run that is done, 0 to 1."""

    def learn(self, segment: Segment, step: int, progress: float) -> dict[str, float]:
        """Learn from a segment that was collected from this step on; metrics ``train/...``."""

    def state(self) -> dict[str, Any]:
        """All that ``load`` needs to go on exactly: tensors, numbers, strings, lists of these."""

    def load(self, state: dict[str, Any]) -> None:
        """Go on from ``state()``."""
