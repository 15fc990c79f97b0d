"""The protocols of an algorithm: its learner, its source of segments, and the loop between them."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from labs.rl.agents.policies import PolicySpec
from labs.rl.agents.segments import Segment


class Learner(Protocol):
    """What training needs of an algorithm's parameters."""

    @property
    def spec(self) -> PolicySpec:
        """The architecture of the policy that acts."""

    @property
    def version(self) -> int:
        """Counts the changes of the parameters."""

    def actor_parameters(self) -> np.ndarray:
        """A copy of the parameters in the form that ``Policy.load`` takes, float32 and flat."""


class Rollouts(Protocol):
    """The source of segments: environments in this process or in workers."""

    replaced: int
    """Workers that died and were replaced so far."""

    def gather(self, parameters: np.ndarray, version: int) -> Segment:
        """One segment of all environments together, collected with exactly these parameters."""

    def next(self, parameters: np.ndarray, version: int, epsilon: float) -> Segment:
        """The next segment that is ready, perhaps collected with older parameters (see ``version``)."""

    def get_state(self) -> list[dict[str, Any] | None]:
        """Every collector's state, for a checkpoint; None for a worker that has died."""

    def set_state(self, states: list[dict[str, Any] | None]) -> None:
        """Restore what ``get_state`` returned. A collector whose state is None starts from its seed."""

    def close(self) -> None:
        """Stop the collectors."""


class Trainer(Protocol):
    """How an algorithm alternates between collecting and learning."""

    @property
    def learner(self) -> Learner:
        """The learner, whose parameters act, are evaluated and are saved."""

    def collect(self, rollouts: Rollouts, progress: float) -> Segment:
        """The next segment; ``progress`` is the fraction of the run so far, 0 to 1."""

    def learn(self, segment: Segment, step: int, progress: float) -> dict[str, float]:
        """Learn from a segment whose first step is ``step``; returns metrics ``train/...``."""

    def state(self) -> dict[str, Any]:
        """The complete state for ``load``: tensors, numbers, strings and lists of these."""

    def load(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned."""
