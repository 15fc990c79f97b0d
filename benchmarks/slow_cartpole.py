"""CartPole with slower steps, to measure rollout workers."""

from __future__ import annotations

import time
from typing import Any

import gymnasium
from gymnasium.envs.classic_control.cartpole import CartPoleEnv


class Slow(CartPoleEnv):
    """Every step takes ``microseconds`` longer and keeps the processor busy."""

    def __init__(self, microseconds: int = 0, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self._seconds = microseconds * 1e-6

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """CartPole's step, and then wait."""
        until = time.perf_counter() + self._seconds
        found: Any = CartPoleEnv.step(self, action)
        while time.perf_counter() < until:
            pass
        return found


gymnasium.register("benchmarks/Slow-v0", "slow_cartpole:Slow", max_episode_steps=500)
