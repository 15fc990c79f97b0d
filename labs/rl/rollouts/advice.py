"""Advice on rollout workers, from the time that a step of the environment takes."""

from __future__ import annotations

import time

import numpy as np

from labs.rl.agents.config import AgentConfig
from labs.rl.envs.make import make_env

WORKERS_PAY_FROM = 60
"""Microseconds per step of one copy above which two workers on two cores are faster than none
(``docs/agents.md`` has the measurements)."""

MEASURED_SECONDS = 0.1


def step_microseconds(config: AgentConfig) -> float:
    """Time of a step of one copy of a config's environment on this machine, with random actions.

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
    """A sentence if a config's workers are probably slower than none, otherwise None.

    Raises:
        InputError: as for ``make_env``.
    """
    if config.num_workers == 0:
        return None
    cost = step_microseconds(config)
    if cost >= WORKERS_PAY_FROM:
        return None
    return (
        f"a step of {config.env} takes {cost:.0f} us, and workers are faster than none only above about"
        f" {WORKERS_PAY_FROM} us: `num_workers` 0 is probably faster"
    )
