"""Returns and advantages. A termination ends a return; a truncation bootstraps from a value.

All arrays are float32 or bool ``[T, N]``, time first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


def generalized_advantages(
    rewards: np.ndarray,
    values: np.ndarray,
    next_values: np.ndarray,
    terminated: np.ndarray,
    truncated: np.ndarray,
    gamma: float,
    gae_lambda: float,
) -> np.ndarray:
    """Generalised advantage estimation (Schulman et al., 2016), ``[T, N]``.

    A_t = d_t + gamma lambda A_{t+1} with d_t = r_t + gamma V(s_{t+1}) - V(s_t). A termination sets
    V(s_{t+1}) to 0; both it and a truncation set A_{t+1} to 0, because the next row belongs to
    another episode. The last row has no successor: its A_{t+1} is 0.

    Args:
        values: V of the observations acted on.
        next_values: V of the observations that each step led to (before any restart).
    """
    deltas = rewards + gamma * np.where(terminated, 0, next_values) - values
    decay = np.where(terminated | truncated, 0, gamma * gae_lambda).astype(np.float32)
    advantages = np.empty_like(deltas)
    following = np.zeros_like(deltas[0])  # A_{t+1}, [N]
    for t in range(len(rewards) - 1, -1, -1):
        following = deltas[t] + decay[t] * following
        advantages[t] = following
    return advantages


class NStep(NamedTuple):
    """The parts of the targets R + discount * max_a Q(s_last, a) of every row of a segment."""

    returns: np.ndarray
    """``[T, N]``: the sum R of discounted rewards up to the last step counted."""
    discounts: np.ndarray
    """``[T, N]``: gamma to the number of steps counted, or 0 after a termination."""
    last: np.ndarray
    """int64 ``[T, N]``: the row whose next observation the target bootstraps from."""


def n_step_targets(
    rewards: np.ndarray, terminated: np.ndarray, truncated: np.ndarray, gamma: float, n: int
) -> NStep:
    """Multi-step targets (Sutton and Barto, 2018, section 7.1).

    A row counts up to ``n`` steps, and fewer where its episode or the segment ends. Its target
    bootstraps from the last step counted, unless that was a termination.
    """
    ended = terminated | truncated
    returns = rewards.copy()
    discounts = np.full_like(rewards, gamma)  # as if n were 1; each turn of the loop adds a step
    last = np.broadcast_to(np.arange(len(rewards))[:, None], rewards.shape).copy()
    going = ~ended  # rows whose first k steps do not end their episode
    for k in range(1, min(n, len(rewards))):
        rows = slice(len(rewards) - k)  # the rows that have a k-th successor in the segment
        going = going[rows]
        returns[rows] += going * discounts[rows] * rewards[k:]
        discounts[rows] *= np.where(going, np.float32(gamma), np.float32(1))
        last[rows] += going
        going = going & ~ended[k:]
    discounts[np.take_along_axis(terminated, last, 0)] = 0
    return NStep(returns, discounts, last)


def discounted_sums(
    rewards: np.ndarray, ended: np.ndarray, gamma: float, start: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Running discounted sums of past rewards, S_t = gamma S_{t-1} + r_t, reset to 0 by an episode's end.

    Args:
        start: ``[N]``, the sums before the first row.

    Returns:
        The sums ``[T, N]``, and those that the next segment starts from ``[N]``.
    """
    sums = np.empty_like(rewards)
    for t in range(len(rewards)):
        sums[t] = start = gamma * start + rewards[t]
        start = np.where(ended[t], 0, start)
    return sums, start
