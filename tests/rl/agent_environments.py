"""Small environments whose solution is known. Importing this module registers them."""

from __future__ import annotations

import os
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Identity(gymnasium.Env):
    """The observation names the right action: reward 1 for it, else 0. Truncated after 10 steps."""

    def __init__(self, size: int = 4, continuous: bool = False) -> None:
        self.observation_space = spaces.Discrete(size)
        self.action_space = spaces.Discrete(size)
        if continuous:
            self.observation_space = spaces.Box(-1, 1, (2,), np.float32)
            self.action_space = spaces.Box(-1, 1, (2,), np.float32)

    def _draw(self) -> Any:
        if isinstance(self.observation_space, spaces.Box):
            self._target: Any = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        else:
            self._target = int(self.np_random.integers(self.observation_space.n))
        return self._target

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        return self._draw(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        if isinstance(self.action_space, spaces.Box):
            reward = 1 - float(np.abs(action - self._target).mean())
        else:
            reward = float(action == self._target)
        return self._draw(), reward, False, False, {}


class Quarters(gymnasium.Env):
    """An image in which one quarter is brighter: reward 1 for naming it. Truncated after 10 steps."""

    def __init__(self, layout: str = "last") -> None:
        self._layout = layout
        shape = {"last": (8, 8, 1), "first": (1, 8, 8), "none": (8, 8)}[layout]
        self.observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.action_space = spaces.Discrete(4)

    def _draw(self) -> np.ndarray:
        self._target = int(self.np_random.integers(4))
        image = self.np_random.integers(100, size=(8, 8), dtype=np.uint8)
        row, column = divmod(self._target, 2)
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 100
        return image.reshape(self.observation_space.shape)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        return self._draw(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        reward = float(action == self._target)
        return self._draw(), reward, False, False, {}


class Constant(gymnasium.Env):
    """Reward 1 for ever, always the same observation."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict]:
        return np.ones(1, np.float32), 1.0, False, False, {}


class Talkative(Constant):
    """Prints its process at every reset."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        print(f"reset in {os.getpid()}")
        return super().reset(seed=seed, options=options)


class Faulty(Constant):
    """Does something bad at step 50: ``nan``, ``raise`` or ``die``."""

    def __init__(self, fault: str) -> None:
        self._fault, self._steps = fault, 0

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict]:
        self._steps += 1
        if self._steps == 50 and self._fault == "raise":
            raise RuntimeError("the motor is on fire")
        if self._steps == 50 and self._fault == "die":
            os.kill(os.getpid(), 9)
        reward = float("nan") if self._steps == 50 and self._fault == "nan" else 1.0
        return np.ones(1, np.float32), reward, False, False, {}


def _register(name: str, entry_point: Any, **kwargs: Any) -> None:
    gymnasium.register(f"test/{name}-v0", entry_point, max_episode_steps=10, kwargs=kwargs)


_register("Identity", Identity)
_register("ContinuousIdentity", Identity, continuous=True)
_register("Quarters", Quarters)
_register("QuartersFirst", Quarters, layout="first")
_register("QuartersFlat", Quarters, layout="none")
_register("Constant", Constant)
_register("Talkative", Talkative)
_register("Nan", Faulty, fault="nan")
_register("Raise", Faulty, fault="raise")
_register("Die", Faulty, fault="die")
