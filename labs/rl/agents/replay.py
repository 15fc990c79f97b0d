"""Experience replay (Lin, 1992) in preallocated NumPy arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch

from labs.rl.agents.networks.base import is_image


class Transitions(NamedTuple):
    """Rows for targets ``returns + discounts * max_a Q(next_observations, a)``."""

    observations: np.ndarray
    """``[n, *observation_shape]``, float32, or uint8 for images"""
    next_observations: np.ndarray
    """``[n, *observation_shape]``, of the last step that ``returns`` counts"""
    actions: np.ndarray
    """int64 ``[n]``"""
    returns: np.ndarray
    """float32 ``[n]``"""
    discounts: np.ndarray
    """float32 ``[n]``: 0 after a termination"""


class Replay:
    """The last ``capacity`` transitions, drawn uniformly with replacement."""

    def __init__(self, capacity: int, observation_shape: tuple[int, ...], seed: int) -> None:
        self.capacity = capacity
        self.size = 0
        """Number of transitions in the replay, at most ``capacity``."""
        self._position = 0
        self._generator = np.random.default_rng(seed)
        dtype = np.uint8 if is_image(observation_shape) else np.float32
        self._rows = Transitions(
            np.zeros((capacity, *observation_shape), dtype=dtype),
            np.zeros((capacity, *observation_shape), dtype=dtype),
            np.zeros(capacity, dtype=np.int64),
            np.zeros(capacity, dtype=np.float32),
            np.zeros(capacity, dtype=np.float32),
        )

    def add(self, rows: Transitions) -> None:
        """Append rows; when the replay is full they overwrite the oldest ones."""
        rows = Transitions(*(column[-self.capacity :] for column in rows))
        count = len(rows.actions)
        # A ring buffer: `first` rows fit before its end, the others go to its beginning.
        first = min(count, self.capacity - self._position)
        for store, column in zip(self._rows, rows, strict=True):
            store[self._position : self._position + first] = column[:first]
            store[: count - first] = column[first:]
        self._position = (self._position + count) % self.capacity
        self.size = min(self.size + count, self.capacity)

    def sample(self, batches: int, batch_size: int) -> np.ndarray:
        """Indices int64 ``[batches, batch_size]`` of uniformly drawn rows, for ``gather``.

        Raises:
            ValueError: the replay is empty.
        """
        if self.size == 0:
            raise ValueError("cannot sample from an empty replay")
        return self._generator.integers(self.size, size=(batches, batch_size))

    def gather(self, indices: np.ndarray) -> Transitions:
        """Copies of the rows at ``indices`` ``[n]``."""
        return Transitions(*(store.take(indices, axis=0) for store in self._rows))

    def state(self) -> dict[str, Any]:
        """The state for ``load``: the rows in use, not the whole capacity. They are not copied."""
        return {
            "rows": [torch.from_numpy(store[: self.size]) for store in self._rows],
            "position": self._position,
            "generator": self._generator.bit_generator.state,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` of a replay of the same capacity returned."""
        for store, rows in zip(self._rows, state["rows"], strict=True):
            self.size = len(rows)
            store[: self.size] = rows.numpy()
        self._position = state["position"]
        self._generator.bit_generator.state = state["generator"]
