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
from labs.rl.envs.values import OUTCOME_KEYS, as_number, as_truth, told
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
    # with their own sentences for the spaces, which an environment may have forgotten to set
    Observations(settings.env_id, getattr(env, "observation_space", None))
    actions = Actions(settings.env_id, getattr(env, "action_space", None))
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
            raise self._old(f"reset returned {told(returned)} alone")
        observation, info = returned
        self._check_observation(observation, "reset")
        self._check_info(info, "reset")

    def step(self, action: Any) -> bool:
        """Whether the episode ended."""
        returned = self._env.step(action)
        if isinstance(returned, tuple) and len(returned) == 4:
            raise self._old("step returned four values")
        if not (isinstance(returned, tuple) and len(returned) == 5):
            raise self._refusal(f"{told(returned)} from step", "five values")
        observation, reward, terminated, truncated, info = returned
        self._check_observation(observation, "step")
        self._check_reward(reward)
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not (isinstance(flag, (bool, np.bool_)) or (_is_whole(flag) and flag in (0, 1))):
                raise self._refusal(f"{told(flag)} as {name} from step", "True or False")
        self._check_info(info, "step")
        return bool(terminated or truncated)

    def _check_observation(self, observation: Any, method: str) -> None:
        space: Any = self._env.observation_space
        found = f"an observation from {method} that is {told(observation)}"
        if isinstance(space, spaces.Discrete):
            if not _is_whole(observation) or not space.contains(np.int64(observation)):
                least, most = int(space.start), int(space.start) + int(space.n) - 1
                raise self._refusal(found, f"a whole number from {least} to {most}")
            return
        try:
            values = np.asarray(observation)
        except (ValueError, TypeError, RuntimeError):  # lists of different lengths, torch's graphs
            raise self._refusal(found, f"an array of numbers of shape {space.shape}") from None
        if values.dtype.kind not in "biuf" or values.shape != space.shape:
            raise self._refusal(found, f"an array of numbers of shape {space.shape}")
        if len(space.shape) > 1 and not np.can_cast(values.dtype, space.dtype, "same_kind"):
            raise self._refusal(found, f"dtype {space.dtype}, as its observation space has")
        if not np.isfinite(values).all():
            bad = values[~np.isfinite(values)][0]
            raise self._refusal(f"an observation with {bad} from {method}", "finite numbers")

    def _check_reward(self, reward: Any) -> None:
        value, found = as_number(reward), f"a reward from step that is {told(reward)}"
        if value is None:
            raise self._refusal(found, "one number")
        if not np.isfinite(value):
            raise self._refusal(found, "a finite number")

    def _check_info(self, info: Any, method: str) -> None:
        if not isinstance(info, dict):
            raise self._refusal(f"{told(info)} as info from {method}", "a dict")
        for key in OUTCOME_KEYS:
            if info.get(key) is not None and as_truth(info[key]) is None:
                raise self._refusal(f"{told(info[key])} as info[{key!r}]", "True or False")

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
