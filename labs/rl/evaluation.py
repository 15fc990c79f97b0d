"""Evaluating policies on episodes that start the same for every policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd

from labs.rl.envs.episodes import OUTCOMES, Environment, Episode
from labs.rl.envs.make import make_env
from labs.rl.envs.settings import EnvSettings
from labs.runtime.errors import InputError
from labs.statistics import mean_interval, proportion_interval

UNREPORTED = ("terminated", "truncated")
"""Outcomes of episodes whose last info has no ``is_success``."""

_STREAM = 7
"""Any number that makes the random streams differ from those that training derives from the seed."""


class PolicyLike(Protocol):
    """What ``evaluate`` takes, for instance ``labs.rl.agents.policies.Policy``."""

    observation_shape: tuple[int, ...]
    action_size: int
    discrete: bool

    def act(
        self, observations: np.ndarray, generator: np.random.Generator | None = None
    ) -> np.ndarray:
        """Actions for observations ``[n, *observation_shape]``.

        The best ones without a generator, otherwise sampled with it.
        """
        ...


class Evaluation(NamedTuple):
    """The result of ``evaluate``."""

    episodes: list[Episode]
    """In the order of their numbers, from 0."""
    seeds: list[int]
    """Episode ``k`` started from ``seeds[k]``."""

    def table(self) -> pd.DataFrame:
        """One row per episode: ``episode, seed, return, length, outcome``."""
        return pd.DataFrame(
            {
                "episode": [episode.number for episode in self.episodes],
                "seed": self.seeds,
                "return": [episode.total_reward for episode in self.episodes],
                "length": [episode.length for episode in self.episodes],
                "outcome": [episode.outcome for episode in self.episodes],
            }
        )

    def summary(self) -> pd.DataFrame:
        """Rows ``measure, mean, mean_low, mean_high, episodes`` with 95% intervals.

        The share of every outcome that occurred (Wilson's score interval), and of ``success`` even if
        it did not, then the mean ``return`` and ``length`` (Student's t).
        """
        table = self.table()
        counts = table["outcome"].value_counts().to_dict()
        if reports_success(self.episodes):
            counts.setdefault("success", 0)
        found = {
            name: proportion_interval(int(counts[name]), len(table))
            for name in OUTCOMES
            if name in counts
        }
        found |= {name: mean_interval(table[name].to_numpy()) for name in ("return", "length")}
        return pd.DataFrame(
            [
                {
                    "measure": name,
                    "mean": interval.estimate,
                    "mean_low": interval.low,
                    "mean_high": interval.high,
                    "episodes": interval.n,
                }
                for name, interval in found.items()
            ]
        )

    def note(self) -> str | None:
        """Why there is no success rate, or which episodes it counts as failures; None if neither."""
        unreported = sum(episode.outcome in UNREPORTED for episode in self.episodes)
        count = len(self.episodes)
        how = 'info["is_success"] of an episode\'s last step'
        if unreported == count:
            return f"no success rate: the environment does not report one ({how})"
        if unreported:
            return f"{unreported} of {count} episodes did not report {how}: they count as failures"
        return None


def evaluate(
    policy: PolicyLike,
    env: str | EnvSettings,
    episodes: int,
    seed: int,
    *,
    frame_stack: int = 1,
    num_envs: int = 64,
    stochastic: bool = False,
) -> Evaluation:
    """Run exactly ``episodes`` episodes, many at once.

    Episode ``k`` starts from the ``k``-th of the seeds that ``seed`` determines, whichever copy of
    the environment runs it, so every policy starts from the same states. The episodes that count are
    the first ``episodes`` to start, each run to its end. To count the first ones to end would favour
    short episodes.

    Args:
        stochastic: sample actions instead of taking the best.

    Raises:
        InputError: as for ``make_env``, the policy's shapes are not those of the environment, or the
            environment returns NaN.
    """
    seeds = _episode_seeds(seed, episodes)
    generator = np.random.default_rng([seed, _STREAM]) if stochastic else None
    copies = make_env(
        env, min(num_envs, episodes), seed, frame_stack=frame_stack, episode_seeds=seeds
    )
    try:
        require_fit(policy, copies)
        observations = copies.reset()
        ended: dict[int, Episode] = {}
        while len(ended) < episodes:
            step = copies.step(policy.act(observations, generator))
            observations = step.observations
            ended |= {e.number: e for e in step.episodes if e.number < episodes}
    finally:
        copies.close()
    return Evaluation([ended[number] for number in range(episodes)], seeds)


def evaluation_metrics(
    policy: PolicyLike,
    env: str | EnvSettings,
    episodes: int,
    seed: int,
    frame_stack: int = 1,
) -> dict[str, float]:
    """The ``episode_metrics`` of an ``evaluate``, tagged ``eval/...`` for a report."""
    found = evaluate(policy, env, episodes, seed, frame_stack=frame_stack)
    return {f"eval/{name}": value for name, value in episode_metrics(found.episodes).items()}


class RandomPolicy:
    """Uniformly random actions, the same sequence for the same seed.

    Raises:
        InputError: as for ``make_env``, or the actions are continuous.
    """

    def __init__(self, env: str | EnvSettings, seed: int) -> None:
        probe = make_env(env, 1, seed)
        self.observation_shape, self.action_size = probe.observation_shape, probe.action_size
        self.discrete = probe.discrete
        probe.close()
        if not self.discrete:
            raise InputError(
                f"environment {env} has continuous actions, and random ones need discrete actions"
            )
        self._generator = np.random.default_rng([seed, _STREAM])

    def act(
        self, observations: np.ndarray, generator: np.random.Generator | None = None
    ) -> np.ndarray:
        """int64 ``[n]``, independent of the observations."""
        return (generator or self._generator).integers(self.action_size, size=len(observations))


def require_fit(policy: PolicyLike, env: Environment) -> None:
    """Raise an InputError unless the policy has the environment's observation and action shapes."""
    for what in ("observation_shape", "action_size", "discrete"):
        needed, found = getattr(policy, what), getattr(env, what)
        if needed != found:
            raise InputError(
                f"environment {env.env_id} does not fit the agent: {what.replace('_', ' ')} is"
                f" {found}, the agent's is {needed}; use the environment that it was trained on"
            )


def episode_metrics(episodes: Sequence[Episode]) -> dict[str, float]:
    """``return_mean`` and ``length_mean``, and the shares of outcomes if success is reported.

    These are ``success_rate``, ``collision_rate`` and ``timeout_rate``, of all episodes: one that
    does not report its outcome counts as a failure.
    """
    metrics = {
        "return_mean": float(np.mean([episode.total_reward for episode in episodes])),
        "length_mean": float(np.mean([episode.length for episode in episodes])),
    }
    outcomes = [episode.outcome for episode in episodes]
    if reports_success(episodes):
        for outcome in ("success", "collision", "timeout"):
            metrics[f"{outcome}_rate"] = outcomes.count(outcome) / len(outcomes)
    return metrics


def reports_success(episodes: Sequence[Episode]) -> bool:
    """Whether any of these episodes reported whether it was a success."""
    return any(episode.outcome not in UNREPORTED for episode in episodes)


def _episode_seeds(seed: int, episodes: int) -> list[int]:
    sequence = np.random.SeedSequence(seed, spawn_key=(_STREAM,))
    return sequence.generate_state(episodes).tolist()
