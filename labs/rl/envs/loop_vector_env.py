"""Single gymnasium environments, stepped one after another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from labs.rl.envs.values import OUTCOME_KEYS, as_number, as_truth, describe_value
from labs.runtime.errors import InputError


class LoopVectorEnv(VectorEnv[Any, Any, Any]):
    """A lean ``gymnasium.vector.SyncVectorEnv`` in autoreset mode ``DISABLED`` that can be resumed.

    It has none of the wrappers that only check the caller, and counts the time limit itself, which
    makes a step of CartPole three times as fast. Environments cannot be copied in general, so
    ``get_state`` saves how every running episode began and the actions since, and ``set_state``
    repeats them. Infos contain only ``OUTCOME_KEYS``.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], gymnasium.Env[Any, Any]],
        num_envs: int,
        max_episode_steps: int,
    ) -> None:
        """``name`` is for errors; ``make`` builds a single environment without a time limit."""
        self._name = name
        self._envs: list[gymnasium.Env[Any, Any]] = []  # ``close`` finds it even if ``make`` fails
        self._envs += [make() for _ in range(num_envs)]
        self.num_envs = num_envs
        self.render_mode = self._envs[0].render_mode
        self.metadata = {**self._envs[0].metadata, "autoreset_mode": AutoresetMode.DISABLED}
        self.single_observation_space = self._envs[0].observation_space
        self.single_action_space = self._envs[0].action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._max_episode_steps = max_episode_steps
        self._observations: list[Any] = [None] * num_envs
        self._starts: list[int | dict[str, Any]] = [0] * num_envs
        self._actions: list[list[Any]] = [[] for _ in range(num_envs)]

    def reset(
        self,
        *,
        seed: int | list[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start new episodes, everywhere or where ``options["reset_mask"]`` is true.

        Seeds are as in gymnasium: ``seed + i``, or one (or None) per environment.
        """
        if seed is None or isinstance(seed, int):
            seed = [None if seed is None else seed + i for i in range(self.num_envs)]
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool))
        for i in np.flatnonzero(mask):
            env, own = self._envs[i], seed[i]
            state: Any = env.unwrapped.np_random.bit_generator.state
            self._starts[i] = state if own is None else own
            self._actions[i] = []
            self._observations[i], _ = env.reset(seed=own)
        return self._stacked(), {}

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step every environment; one whose episode has ended must be reset first."""
        rewards, terminated, truncated = [], [], []
        infos: dict[str, Any] = {}
        for i, (env, action) in enumerate(zip(self._envs, actions, strict=True)):
            observation, reward, is_terminal, is_cut, info = env.step(action)
            self._observations[i] = observation
            self._actions[i].append(action)
            rewards.append(self._number(reward))
            terminated.append(is_terminal)
            truncated.append(is_cut or len(self._actions[i]) >= self._max_episode_steps)
            if info:
                self._note_outcome(infos, info, i)
        return (
            self._stacked(),
            np.array(rewards, dtype=np.float64),
            np.array(terminated, dtype=bool),
            np.array(truncated, dtype=bool),
            infos,
        )

    def _number(self, reward: Any) -> float:
        number = as_number(reward)
        if number is None:
            raise InputError(
                f"environment {self._name} returned the reward {describe_value(reward)}: expected one"
                " number"
            )
        return number

    def _note_outcome(self, infos: dict[str, Any], info: dict[str, Any], i: int) -> None:
        """In gymnasium's format: a value under ``key``, and under ``_key`` whether it is there."""
        for key in OUTCOME_KEYS:
            if info.get(key) is None:
                continue
            value = as_truth(info[key])
            if value is None:
                raise InputError(
                    f"environment {self._name} returned {describe_value(info[key])} as info[{key!r}]: expected"
                    " True or False"
                )
            for name, part in ((key, value), (f"_{key}", True)):
                infos.setdefault(name, np.zeros(self.num_envs, dtype=bool))[i] = part

    def _stacked(self) -> np.ndarray:
        """A new array, since an environment may return the same array every time and change it."""
        try:
            stacked = np.array(self._observations)
        except ValueError:  # of different lengths
            stacked = np.empty(0)
        if stacked.shape != self.observation_space.shape:
            expected = self.single_observation_space.shape
            shapes = [np.shape(observation) for observation in self._observations]
            bad = next((shape for shape in shapes if shape != expected), None)
            raise InputError(
                f"environment {self._name} returned an observation of shape {bad}: expected {expected},"
                " that of its observation space"
            )
        return stacked

    def get_state(self) -> dict[str, Any]:
        """How each running episode began (its seed, or the state of ``np_random``), and its actions."""
        return {
            "starts": list(self._starts),
            "actions": [[np.asarray(action).tolist() for action in row] for row in self._actions],
        }

    def set_state(self, state: dict[str, Any]) -> np.ndarray:
        """Repeat the actions of ``get_state``; returns the current observations."""
        for i, (env, start) in enumerate(zip(self._envs, state["starts"], strict=True)):
            seed = start if isinstance(start, int) else None
            if seed is None:
                env.unwrapped.np_random.bit_generator.state = start
            self._starts[i] = start
            self._observations[i], _ = env.reset(seed=seed)
            self._actions[i] = []
            for action in state["actions"][i]:
                native = np.asarray(action, dtype=self.single_action_space.dtype)[()]
                self._observations[i], *_ = env.step(native)
                self._actions[i].append(native)
        return self._stacked()

    def render(self) -> tuple[Any, ...]:
        """What each environment's ``render`` returns: a uint8 frame, by gymnasium's interface."""
        return tuple(env.render() for env in self._envs)

    def close_extras(self, **kwargs: Any) -> None:
        """Close every single environment."""
        for env in self._envs:
            env.close()
