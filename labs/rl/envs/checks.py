"""Checks of what a user's environment returns, made once before anything is started.

``gymnasium.utils.env_checker`` warns of much that does no harm, and fails with an assertion. This
refuses only what agents cannot learn from, and says which environment it is, what it returned, and
what is expected.
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
from labs.rl.envs.values import OUTCOME_KEYS, as_number, as_truth, describe_value
from labs.runtime.errors import InputError

CHECKED_STEPS = 8
"""Enough for faults of every step, or every second or third one, and cheap if a step is slow."""


def check_environment(settings: EnvSettings, env: gymnasium.Env[Any, Any]) -> None:
    """Reset and step a new copy with random actions, and check everything that it returns.

    Raises:
        InputError: a space is not supported; the environment has the interface from before gymnasium
            0.26; or it returns NaN, or observations, rewards, flags or infos whose shape or type is
            not that of its spaces and of gymnasium.
    """
    # They raise if a space is not supported, or is missing because the environment does not set it.
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
            raise self._old(f"reset returned only {describe_value(returned)}")
        observation, info = returned
        self._check_observation(observation, "reset")
        self._check_info(info, "reset")

    def step(self, action: Any) -> bool:
        """Returns whether the episode ended."""
        returned = self._env.step(action)
        if isinstance(returned, tuple) and len(returned) == 4:
            raise self._old("step returned four values")
        if not (isinstance(returned, tuple) and len(returned) == 5):
            raise self._refusal(f"{describe_value(returned)} from step", "five values")
        observation, reward, terminated, truncated, info = returned
        self._check_observation(observation, "step")
        self._check_reward(reward)
        for name, flag in (("terminated", terminated), ("truncated", truncated)):
            if not (isinstance(flag, (bool, np.bool_)) or (_is_whole(flag) and flag in (0, 1))):
                raise self._refusal(f"{describe_value(flag)} as {name} from step", "True or False")
        self._check_info(info, "step")
        return bool(terminated or truncated)

    def _check_observation(self, observation: Any, method: str) -> None:
        space: Any = self._env.observation_space
        found = f"an observation from {method} that is {describe_value(observation)}"
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
            raise self._refusal(found, f"dtype {space.dtype}, that of its observation space")
        if not np.isfinite(values).all():
            bad = values[~np.isfinite(values)][0]
            raise self._refusal(f"an observation with {bad} from {method}", "finite numbers")

    def _check_reward(self, reward: Any) -> None:
        value, found = as_number(reward), f"a reward from step that is {describe_value(reward)}"
        if value is None:
            raise self._refusal(found, "one number")
        if not np.isfinite(value):
            raise self._refusal(found, "a finite number")

    def _check_info(self, info: Any, method: str) -> None:
        if not isinstance(info, dict):
            raise self._refusal(f"{describe_value(info)} as info from {method}", "a dict")
        for key in OUTCOME_KEYS:
            if info.get(key) is not None and as_truth(info[key]) is None:
                raise self._refusal(
                    f"{describe_value(info[key])} as info[{key!r}]", "True or False"
                )

    def _refusal(self, returned: str, expected: str) -> InputError:
        return InputError(f"{self._name} returned {returned}: expected {expected}")

    def _old(self, found: str) -> InputError:
        return InputError(
            f"{self._name} has the interface from before gymnasium 0.26 ({found}): its reset must take"
            " seed and options and return observation and info, and its step return observation,"
            " reward, terminated, truncated and info"
        )


def _is_whole(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.shape == () and value.dtype.kind in "iu"
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
