"""Conversion between an environment's spaces and the arrays that agents use."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from labs.rl.envs.values import describe_value
from labs.runtime.errors import InputError

LARGEST_BOUND = 1e6
"""A larger bound of an action counts as none: it does not tell the scale of useful actions."""


class Observations:
    """Turns observations of a flat Box or a Discrete space into float32 rows, images into uint8 ones.

    An image is a uint8 Box ``(height, width)``, or one with channels first or last. The channels are
    the shorter one of the first and the last axis; agents see them first.
    """

    shape: tuple[int, ...]
    """``(size,)``, or ``(channels, height, width)`` of an image."""

    def __init__(self, env_id: str, space: Any) -> None:
        """``env_id`` is used in error messages.

        Raises:
            InputError: the space is not supported.
        """
        _require_space(env_id, "observation", space)
        self._env_id = env_id
        self._start = 0
        self._one_hot = isinstance(space, spaces.Discrete)
        self._channels_last = False
        box = isinstance(space, spaces.Box) and 0 not in space.shape
        if isinstance(space, spaces.Discrete):
            self.shape, self._start = (int(space.n),), int(space.start)
        elif box and len(space.shape) == 1:
            self.shape = space.shape
        elif box and space.dtype == np.uint8 and len(space.shape) in (2, 3):
            first, *rest = space.shape if len(space.shape) == 3 else (1, *space.shape)
            self._channels_last = first >= min(rest)
            self.shape = (rest[1], first, rest[0]) if self._channels_last else (first, *rest)
        else:
            hint = ""
            if space.is_np_flattenable and spaces.flatdim(space):
                hint = "; `wrapper` gymnasium.wrappers:FlattenObservation flattens them"
            raise InputError(
                f"`env` {env_id} has observations {space}: supported are a Box with one dimension,"
                " images of uint8 and Discrete, for instance CartPole-v1 or FrozenLake-v1" + hint
            )

    def encode(self, raw: Any) -> np.ndarray:
        """A batch of ``n`` observations as ``[n, *shape]``, float32, or uint8 where they are images.

        A Discrete one is one-hot.
        """
        if len(self.shape) == 3:
            images = np.asarray(raw, dtype=np.uint8)
            if self._channels_last:
                images = np.moveaxis(images, -1, 1)
            return images.reshape(len(images), *self.shape).copy()
        if not self._one_hot:
            return np.array(raw, dtype=np.float32)
        places = np.asarray(raw) - self._start
        (size,) = self.shape
        if ((places < 0) | (places >= size)).any():
            bad = places[(places < 0) | (places >= size)][0] + self._start
            raise InputError(
                f"environment {self._env_id} returned the observation {bad}: its observation space"
                f" has the whole numbers from {self._start} to {self._start + size - 1}"
            )
        rows = np.zeros((len(places), size), dtype=np.float32)
        rows[np.arange(len(places)), places] = 1
        return rows


def _require_space(env_id: str, kind: str, space: Any) -> None:
    if not isinstance(space, spaces.Space):
        raise InputError(
            f"`env` {env_id} has {describe_value(space)} as its {kind} space: set {kind}_space to one of"
            " gymnasium.spaces, in the class or its __init__"
        )


class Actions:
    """Turns an agent's actions into those of a Discrete space or a flat Box.

    A bounded component of a Box is scaled, so that -1 is its lower bound and 1 its upper bound: the
    first actions of an agent are around 0 with a standard deviation near 1, which may be far outside
    of a range, or cover only the middle of a wide one. A component without two bounds is not scaled.
    Components of an integer Box are rounded.
    """

    def __init__(self, env_id: str, space: Any) -> None:
        """``env_id`` is used in error messages.

        Raises:
            InputError: the space is not supported.
        """
        _require_space(env_id, "action", space)
        self._space = space
        self.discrete = isinstance(space, spaces.Discrete)
        if isinstance(space, spaces.Discrete):
            self.size = int(space.n)
            return
        if not (isinstance(space, spaces.Box) and len(space.shape) == 1 and space.shape[0]):
            raise InputError(
                f"`env` {env_id} has actions {space}: supported are Discrete and a Box with one"
                " dimension, for instance CartPole-v1 or Pendulum-v1"
            )
        self.size = space.shape[0]
        low, high = space.low.astype(np.float64), space.high.astype(np.float64)
        bounded = (np.abs(low) <= LARGEST_BOUND) & (np.abs(high) <= LARGEST_BOUND)
        low, high = np.where(bounded, low, -1), np.where(bounded, high, 1)
        self._centre, self._scale = (low + high) / 2, (high - low) / 2
        self._rounds = np.issubdtype(space.dtype, np.integer)

    def native(self, actions: np.ndarray) -> np.ndarray:
        """Actions in the units of the environment.

        Args:
            actions: int64 ``[n]`` from 0 to ``size - 1``, or floats ``[n, size]``.

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
