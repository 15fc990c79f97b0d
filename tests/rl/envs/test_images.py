"""Images as agents see them: uint8, channels first, frames stacked along the channels."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from labs.rl.envs.make import make_env


class Noise(gymnasium.Env):
    """Random pixels; episodes of three steps."""

    action_space = spaces.Discrete(2)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)

    def _draw(self) -> np.ndarray:
        return self.np_random.integers(256, size=self.observation_space.shape, dtype=np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.count = 0
        return self._draw(), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.count += 1
        return self._draw(), 0.0, self.count == 3, False, {}


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    shapes = {"Last": (7, 9, 3), "First": (3, 7, 9), "Flat": (7, 9), "Square": (4, 4, 4)}
    for name, shape in shapes.items():
        gymnasium.register(f"test/Noise{name}-v0", Noise, kwargs={"shape": shape})
    yield
    for name in shapes:
        del gymnasium.registry[f"test/Noise{name}-v0"]


@pytest.mark.parametrize(
    ("name", "shape", "axis"),
    [
        ("Last", (3, 7, 9), -1),
        ("First", (3, 7, 9), 0),
        ("Flat", (1, 7, 9), None),
        ("Square", (4, 4, 4), -1),
    ],
)
def test_channels_come_first_and_frames_are_stacked_along_them(
    name: str, shape: tuple[int, ...], axis: int | None
) -> None:
    env_id = f"test/Noise{name}-v0"
    seeds = [11, 12, 13, 14]
    env = make_env(env_id, 2, seed=0, frame_stack=2, episode_seeds=seeds)
    assert env.observation_shape == (2 * shape[0], *shape[1:])
    alone = gymnasium.make(env_id)

    def seen(raw: np.ndarray) -> np.ndarray:
        return raw[None] if axis is None else np.moveaxis(raw, axis, 0)

    expected = [seen(alone.reset(seed=seeds[1])[0])]
    expected += [seen(alone.step(0)[0]) for _ in range(3)]
    found = env.reset()
    assert found.dtype == np.uint8 and found.shape == (2, *env.observation_shape)
    np.testing.assert_array_equal(found[1], np.concatenate([expected[0]] * 2))
    for before, after in pairwise(expected):
        step = env.step(np.zeros(2, dtype=int))
        np.testing.assert_array_equal(step.final_observations[1], np.concatenate([before, after]))
    restarted = seen(alone.reset(seed=seeds[3])[0])
    np.testing.assert_array_equal(step.observations[1], np.concatenate([restarted] * 2))

    other = make_env(env_id, 2, seed=5, frame_stack=2)
    again = other.set_state(env.get_state())
    assert again.dtype == np.uint8
    np.testing.assert_array_equal(again, step.observations)
    for one in (env, other):
        step = one.step(np.ones(2, dtype=int))
    np.testing.assert_array_equal(step.observations, env._observations)
