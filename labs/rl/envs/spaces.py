"""Between an environment's spaces and what agents work with: float32 rows in, scaled actions out."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from labs.runtime.errors import InputError

FAR = 1e6
"""A bound beyond this is none: it says that a number has an end somewhere, not where it will be."""


class Observations:
    """Turns observations of a flat Box or a Discrete space into float32 rows."""

    def __init__(self, env_id: str, space: spaces.Space[Any]) -> None:
        """``env_id`` is for errors.

        Raises:
            InputError: the space is not supported.
        """
        self._env_id = env_id
        self._start = 0
        self._one_hot = isinstance(space, spaces.Discrete)
        if isinstance(space, spaces.Discrete):
            self.size, self._start = int(space.n), int(space.start)
        elif isinstance(space, spaces.Box) and len(space.shape) == 1:
            self.size = space.shape[0]
        else:
            hint = ""
            if space.is_np_flattenable:
                hint = "; `wrapper` gymnasium.wrappers:FlattenObservation makes one row of them"
            raise InputError(
                f"`env` {env_id} has observations {space}: supported are a Box with one dimension"
                f" and Discrete, for instance CartPole-v1 or FrozenLake-v1{hint}"
            )

    def encode(self, raw: Any) -> np.ndarray:
        """A batch of ``n`` observations as float32 ``[n, size]``; a Discrete one is one-hot."""
        if not self._one_hot:
            return np.array(raw, dtype=np.float32)
        places = np.asarray(raw) - self._start
        if ((places < 0) | (places >= self.size)).any():
            bad = places[(places < 0) | (places >= self.size)][0] + self._start
            raise InputError(
                f"environment {self._env_id} returned the observation {bad}: its observation space"
                f" has the whole numbers from {self._start} to {self._start + self.size - 1}"
            )
        rows = np.zeros((len(places), self.size), dtype=np.float32)
        rows[np.arange(len(places)), places] = 1
        return rows


class Actions:
    """Turns an agent's actions into those of a Discrete space or a flat Box.

    A bounded component of a Box is scaled, so that -1 is its lower bound and 1 its upper one: an agent
    begins with actions around 0 with a spread of 1, and would never find a range that is far from
    there, nor leave the middle of a wide one. A component without two bounds stays as it is. Whole
    numbers are rounded.
    """

    def __init__(self, env_id: str, space: spaces.Space[Any]) -> None:
        """``env_id`` is for errors.

        Raises:
            InputError: the space is not supported.
        """
        self._space = space
        self.discrete = isinstance(space, spaces.Discrete)
        if isinstance(space, spaces.Discrete):
            self.size = int(space.n)
            return
        if not (isinstance(space, spaces.Box) and len(space.shape) == 1):
            raise InputError(
                f"`env` {env_id} has actions {space}: supported are Discrete and a Box with one"
                " dimension, for instance CartPole-v1 or Pendulum-v1"
            )
        self.size = space.shape[0]
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        bounded = (np.abs(low) <= FAR) & (np.abs(high) <= FAR)
        low, high = np.where(bounded, low, -1), np.where(bounded, high, 1)
        self._centre, self._scale = (low + high) / 2, (high - low) / 2
        self._rounds = np.issubdtype(space.dtype, np.integer)

    def native(self, actions: np.ndarray) -> np.ndarray:
        """Actions in the environment's own terms.

        Args:
            actions: int64 ``[n]`` from 0 on, or floats ``[n, size]``.

        Returns:
            int64 ``[n]``, or ``[n, size]`` of the space's dtype, within its bounds.
        """
        space: Any = self._space
        if self.discrete:
            return np.asarray(actions, dtype=np.int64) + int(space.start)
        scaled = self._centre + self._scale * np.asarray(actions, dtype=np.float64)
        if self._rounds:
            scaled = np.rint(scaled)
        return np.clip(scaled, space.low, space.high).astype(space.dtype)
