"""Stepping a vector environment with a policy and recording segments, without Ray or learners."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from labs.rl.agents.policies import Policy, PolicySpec
from labs.rl.agents.segments import Segment
from labs.rl.envs.episodes import Episode
from labs.rl.envs.make import make_env
from labs.rl.envs.settings import EnvSettings


@dataclass(frozen=True)
class CollectorSpec:
    """The settings of a collector, in this process or in a worker."""

    env: EnvSettings
    num_envs: int
    frame_stack: int
    segment_length: int
    """Steps of every environment per segment."""
    policy: PolicySpec
    seed: int
    """Seed of the run; each collector derives its own from it."""


class Collector:
    """Steps ``num_envs`` environments with a policy, one segment at a time."""

    def __init__(self, spec: CollectorSpec, index: int, replacements: int = 0) -> None:
        """``index`` and ``replacements`` (how often it was replaced) make its random streams unique."""
        root = np.random.SeedSequence((spec.seed, index, replacements))
        env_seed, action_seed = root.generate_state(2).tolist()
        self._spec = spec
        self._policy = Policy(spec.policy)
        self._generator = np.random.default_rng(action_seed)
        self._environment = make_env(
            spec.env, spec.num_envs, env_seed, frame_stack=spec.frame_stack
        )
        self._observations = self._environment.reset()

    def collect(self, parameters: np.ndarray, version: int, epsilon: float = 0.0) -> Segment:
        """The next segment, collected with ``parameters`` (see ``Policy.load``).

        Raises:
            InputError: the environment returned NaN or infinity.
        """
        spec, environment = self._spec, self._environment
        self._policy.load(parameters)
        shape = (spec.segment_length, spec.num_envs)
        rows = (2, *shape, *environment.observation_shape)
        observations, next_observations = np.empty(rows, dtype=environment.observation_dtype)
        rewards = np.empty(shape, dtype=np.float32)
        terminated, truncated = np.empty((2, *shape), dtype=bool)
        actions = (
            np.empty(shape, dtype=np.int64)
            if environment.discrete
            else np.empty((*shape, environment.action_size), dtype=np.float32)
        )
        episodes: list[Episode] = []
        environment_seconds = inference_seconds = 0.0
        for t in range(spec.segment_length):
            began = time.perf_counter()
            observations[t] = self._observations
            actions[t] = self._policy.act(self._observations, self._generator, epsilon)
            chosen = time.perf_counter()
            step = environment.step(actions[t])
            self._observations = step.observations
            rewards[t] = step.rewards
            terminated[t] = step.terminated
            truncated[t] = step.truncated
            next_observations[t] = step.final_observations
            episodes.extend(step.episodes)
            inference_seconds += chosen - began
            environment_seconds += time.perf_counter() - chosen
        return Segment(
            observations,
            actions,
            rewards,
            terminated,
            truncated,
            next_observations,
            episodes,
            version,
            environment_seconds,
            inference_seconds,
        )

    def get_state(self) -> dict[str, Any]:
        """The state of the environments and of the random numbers, for a checkpoint."""
        return {
            "environment": self._environment.get_state(),
            "generator": self._generator.bit_generator.state,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Restore what ``get_state`` returned."""
        self._observations = self._environment.set_state(state["environment"])
        self._generator.bit_generator.state = state["generator"]

    def close(self) -> None:
        """Close the environments."""
        self._environment.close()
