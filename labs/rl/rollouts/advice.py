"""Whether rollout workers can be worth it: from the cost of an environment's step."""

from __future__ import annotations

import time

import numpy as np

from labs.rl.agents.config import AgentConfig
from labs.rl.envs.make import make_env

WORTH_IT = 20
"""Microseconds that a step of one copy takes where two workers on two cores begin to be faster than
none (``docs/agents.md`` has the numbers)."""

MEASURED_SECONDS = 0.1


def step_microseconds(config: AgentConfig) -> float:
    """What a step of one copy of a config's environment takes on this machine, with random actions.

    Raises:
        InputError: as for ``make_env``.
    """
    env = make_env(config.env_settings(), config.envs_per_worker, 0, frame_stack=config.frame_stack)
    rng = np.random.default_rng(0)
    shape = (env.num_envs,) if env.discrete else (env.num_envs, env.action_size)
    try:
        env.reset()
        steps, seconds = 0, 0.0
        while seconds < MEASURED_SECONDS:
            actions = (
                rng.integers(env.action_size, size=shape)
                if env.discrete
                else rng.uniform(-1, 1, shape).astype(np.float32)
            )
            began = time.perf_counter()
            env.step(actions)
            seconds += time.perf_counter() - began
            steps += env.num_envs
    finally:
        env.close()
    return seconds / steps * 1e6


def workers_note(config: AgentConfig) -> str | None:
    """A sentence where a config's workers are not likely to be faster than none, else None.

    Raises:
        InputError: as for ``make_env``.
    """
    if config.num_workers == 0:
        return None
    cost = step_microseconds(config)
    if cost >= WORTH_IT:
        return None
    return (
        f"a step of {config.env} takes {cost:.0f} us, and workers begin to be faster than none at about"
        f" {WORTH_IT} us: `num_workers` 0 is likely to be faster"
    )
