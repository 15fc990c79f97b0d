"""Single gymnasium environments, stepped one after another."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space


class LoopVectorEnv(VectorEnv):
    """What ``gymnasium.vector.SyncVectorEnv`` is in autoreset mode ``DISABLED``, lean and resumable.

    The wrappers that only check the caller are left out and the time limit is counted here, which
    makes a step of CartPole three times as fast. ``get_state`` writes down how every running
    episode began and the actions taken since; ``set_state`` takes them again.
    """

    def __init__(
        self,
        spec: EnvSpec,
        num_envs: int,
        max_episode_steps: int,
        **options: Any,
    ) -> None:
        """``options``: for the environments' constructor, for instance ``render_mode``."""
        bare = copy.deepcopy(spec)
        bare.order_enforce = False
        bare.disable_env_checker = True
        bare.max_episode_steps = None
        self._envs: list[gymnasium.Env] = []  # ``close`` finds it even if ``make`` fails
        self._envs += [gymnasium.make(bare, **options) for _ in range(num_envs)]
        self.spec = spec
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
        """Begin new episodes, everywhere or where ``options["reset_mask"]`` is true.

        Seeds are gymnasium's: ``seed + i``, or one (or None) per environment.
        """
        if seed is None or isinstance(seed, int):
            seed = [None if seed is None else seed + i for i in range(self.num_envs)]
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, dtype=bool))
        infos: dict[str, Any] = {}
        for i in np.flatnonzero(mask):
            env = self._envs[i]
            start = env.unwrapped.np_random.bit_generator.state if seed[i] is None else seed[i]
            self._starts[i] = start
            self._actions[i] = []
            self._observations[i], info = env.reset(seed=seed[i])
            infos = self._add_info(infos, info, i)
        return np.array(self._observations), infos

    def step(
        self, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step every environment; one whose episode has ended must have been reset before."""
        rewards, terminated, truncated = [], [], []
        infos: dict[str, Any] = {}
        native = actions.tolist() if actions.ndim == 1 else actions
        for i, (env, action) in enumerate(zip(self._envs, native, strict=True)):
            observation, reward, is_terminal, is_cut, info = env.step(action)
            self._observations[i] = observation
            self._actions[i].append(action)
            rewards.append(reward)
            terminated.append(is_terminal)
            truncated.append(is_cut or len(self._actions[i]) >= self._max_episode_steps)
            if info:
                infos = self._add_info(infos, info, i)
        return (
            np.array(self._observations),
            np.array(rewards, dtype=np.float64),
            np.array(terminated, dtype=bool),
            np.array(truncated, dtype=bool),
            infos,
        )

    def get_state(self) -> dict[str, Any]:
        """How each running episode began (its seed, or the state of ``np_random``), and its actions."""
        return {
            "starts": list(self._starts),
            "actions": [[np.asarray(action).tolist() for action in row] for row in self._actions],
        }

    def set_state(self, state: dict[str, Any]) -> np.ndarray:
        """Take the actions of ``get_state`` again; returns the observations reached."""
        for i, (env, start) in enumerate(zip(self._envs, state["starts"], strict=True)):
            seed = start if isinstance(start, int) else None
            if seed is None:
                env.unwrapped.np_random.bit_generator.state = start
            self._starts[i] = start
            self._observations[i], _ = env.reset(seed=seed)
            self._actions[i] = []
            for action in state["actions"][i]:
                if not isinstance(action, int):
                    action = np.array(action, dtype=self.single_action_space.dtype)
                self._observations[i], *_ = env.step(action)
                self._actions[i].append(action)
        return np.array(self._observations)

    def render(self) -> tuple[np.ndarray, ...]:
        """One uint8 frame per environment."""
        return tuple(env.render() for env in self._envs)

    def close_extras(self, **kwargs: Any) -> None:
        """Close every single environment."""
        for env in self._envs:
            env.close()
