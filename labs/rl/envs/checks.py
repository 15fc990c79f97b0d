"""What a user's environment returns, looked at once before anything is started.

``gymnasium.utils.env_checker`` warns of much that does no harm, and stops with the first failed
assertion; this refuses only what agents cannot learn from, in a sentence each: which environment,
what it returned, and what is expected.
"""

from __future__ import annotations

import inspect
import numbers
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from labs.rl.envs.settings import EnvSettings
from labs.rl.envs.spaces import Actions, Observations
from labs.runtime.errors import InputError

CHECKED_STEPS = 8
"""Enough for what happens at every step or every second or third one, and cheap where a step is slow."""


def check_environment(settings: EnvSettings, env: gymnasium.Env[Any, Any]) -> None:
    """Reset and step a fresh copy with random actions, and look at all that it returns.

    Raises:
        InputError: a space is not supported; or it has the interface of before gymnasium 0.26, or
            returns observations, rewards, flags or infos of another shape or type than its spaces and
            gymnasium say, or NaN.
    """
    Observations(settings.env_id, env.observation_space)  # with its own sentence for the space
    actions = Actions(settings.env_id, env.action_space)
    check = _Check(settings, env)
    check.reset(seed=0)
    generator = np.random.default_rng(0)
    for _ in range(CHECKED_STEPS):
        chosen: np.ndarray = generator.uniform(-1, 1, (1, actions.size))
        if actions.discrete:
            chosen = generator.integers(actions.size, size=1)
        if check.step(actions.native(chosen)[0]):
            check.reset(seed=None)
    check.reset(seed=None)


class _Check:
    def __init__(self, settings: EnvSettings, env: gymnasium.Env[Any, Any]) -> None:
        self._name = f"environment {settings}"
        self._env = env

    def reset(self, seed: int | None) -> None:
        accepted = inspect.signature(self._env.unwrapped.reset).parameters
        if "seed" not in accepted and not any(p.kind == p.VAR_KEYWORD for p in accepted.values()):
            raise self._old(f"reset({', '.join(accepted)}) takes no seed")
        returned = self._env.reset(seed=seed)
        if not (isinstance(returned, tuple) and len(returned) == 2):
            raise self._old(f"reset returned {_told(returned)} alone")
        observation, info = returned
        self._check_observation(observation, "reset")
        self._check_info(info, "reset")

    def step(self, action: Any) -> bool:
        """Whether the episode ended."""
        returned = self._env.step(action)
        if isinstance(returned, tuple) and len(returned) == 4:
            raise self._old("step returned four values")
        if not (isinstance(returned, tuple) and len(returned) == 5):
            raise self._refusal(f"{_told(returned)} from step", "five values")
        observation, reward, terminated, truncated, info = returned
        self._check_observation(observation, "step")
        self._check_reward(reward)
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not (isinstance(flag, (bool, np.bool_)) or (_is_whole(flag) and flag in (0, 1))):
                raise self._refusal(f"{_told(flag)} as {name} from step", "True or False")
        self._check_info(info, "step")
        return bool(terminated or truncated)

    def _check_observation(self, observation: Any, method: str) -> None:
        space: Any = self._env.observation_space
        told = f"an observation from {method} that is {_told(observation)}"
        if isinstance(space, spaces.Discrete):
            if not _is_whole(observation) or not space.contains(np.int64(observation)):
                least, most = int(space.start), int(space.start) + int(space.n) - 1
                raise self._refusal(told, f"a whole number from {least} to {most}")
            return
        try:
            values = np.asarray(observation)
        except ValueError:  # lists of different lengths
            raise self._refusal(told, f"an array of numbers of shape {space.shape}") from None
        if values.dtype.kind not in "biuf" or values.shape != space.shape:
            raise self._refusal(told, f"an array of numbers of shape {space.shape}")
        if len(space.shape) > 1 and not np.can_cast(values.dtype, space.dtype, "same_kind"):
            raise self._refusal(told, f"dtype {space.dtype}, as its observation space has")
        if not np.isfinite(values).all():
            bad = values[~np.isfinite(values)][0]
            raise self._refusal(f"an observation with {bad} from {method}", "finite numbers")

    def _check_reward(self, reward: Any) -> None:
        told = f"a reward from step that is {_told(reward)}"
        array = isinstance(reward, np.ndarray) and reward.shape != ()
        try:
            value = np.nan if array else float(reward)
        except (TypeError, ValueError):
            array = True
        if array:
            raise self._refusal(told, "one number")
        if not np.isfinite(value):
            raise self._refusal(told, "a finite number")

    def _check_info(self, info: Any, method: str) -> None:
        if not isinstance(info, dict):
            raise self._refusal(f"{_told(info)} as info from {method}", "a dict")

    def _refusal(self, returned: str, expected: str) -> InputError:
        return InputError(f"{self._name} returned {returned}: expected is {expected}")

    def _old(self, found: str) -> InputError:
        return InputError(
            f"{self._name} has the interface of before gymnasium 0.26 ({found}): its reset must take"
            " seed and options and return observation and info, and its step return observation,"
            " reward, terminated, truncated and info"
        )


def _is_whole(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.shape == () and value.dtype.kind in "iu"
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _told(value: Any) -> str:
    """A value as an error shows it: short, with its shape where it has one."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    text = repr(value)
    return text if len(text) <= 40 else f"a {type(value).__name__}"
