"""The agents of a comparison and their settings, which are the same for ours and for RLlib's."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from labs.rl.agents.config import AgentConfig, agent_config, find_algorithm
from labs.rl.agents.networks.base import is_image
from labs.rl.comparison.rllib import check_rllib, train_rllib
from labs.rl.envs.make import make_env
from labs.rl.envs.settings import EnvSettings
from labs.rl.training import check_agent, train_agent
from labs.runtime.errors import InputError
from labs.runtime.reports import Checkpoint, Report

Library = Literal["labs", "rllib"]
AGENTS = ("labs-ppo", "rllib-ppo", "labs-dqn", "rllib-dqn")

SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": {
        "envs_per_worker": 8,
        "segment_length": 128,
        "batch_size": 128,
        "hidden_sizes": (64, 64),
        "activation": "tanh",
        "learning_rate": 1e-3,
        "entropy_coefficient": 0.0,
        "normalize_rewards": False,
    },
    "dqn": {
        "envs_per_worker": 8,
        "segment_length": 8,
        "batch_size": 32,  # RLlib's default; larger ones are slow: its learner takes 0.5 ms per row
        "hidden_sizes": (128, 64),
        "activation": "relu",
        "learning_rate": 1e-3,
        "update_interval": 16,
        "learning_starts": 1000,
        "target_interval": 100,
        "max_grad_norm": 10.0,
    },
}
"""Hyperparameters for both libraries, by algorithm. Features that only ours has, such as normalised
observations, are off."""

TUNED: dict[tuple[str, str], dict[str, Any]] = {
    # Published for a third library: rl-baselines3-zoo, hyperparams/ppo.yml and dqn.yml. Its clip
    # range, which falls to 0, stays at 0.2 here.
    ("ppo", "CartPole-v1"): {
        "segment_length": 32,
        "batch_size": 256,
        "epochs": 20,
        "gae_lambda": 0.8,
        "gamma": 0.98,
    },
    ("dqn", "CartPole-v1"): {
        "segment_length": 32,  # times 8 environments: 256 steps, then 128 updates
        "batch_size": 64,
        "hidden_sizes": (256, 256),
        "learning_rate": 2.3e-3,
        "anneal": False,
        "update_interval": 2,
        "target_interval": 128,  # the updates after one collection, as in Stable-Baselines3
        "double_q": False,
        "n_step": 1,
        "epsilon_decay": 0.16,
        "epsilon_end": 0.04,
    },
}
"""What differs from ``SETTINGS`` on an environment, for both libraries."""

TUNED_LEARNING_RATES: dict[tuple[str, str], float] = {
    ("labs-ppo", "labs/NavigationGoal-v1"): 3e-3,  # mean success 0.77, 0.83, 0.85
    ("rllib-ppo", "labs/NavigationGoal-v1"): 3e-3,  # 0.78, 0.83, 0.84
    ("labs-dqn", "labs/NavigationGoal-v1"): 1e-3,  # 0.87, 0.95, 0.93
    ("rllib-dqn", "labs/NavigationGoal-v1"): 3e-4,  # 0.80, 0.76, 0.79
}
"""Learning rates for environments without published values: the best of 3e-4, 1e-3 and 3e-3 at the end
of two runs with seeds that the comparison does not use (``compare_agents.py --envs
labs/NavigationGoal-v1 --seed 1000000 --seeds 2 --evaluations 5 --learning-rate 3e-4`` and so on)."""


@dataclass(frozen=True)
class RunConfig(AgentConfig):
    """One run of a comparison: an algorithm's config (see ``run_config``) and the library.

    Raises:
        InputError: as for ``AgentConfig``.
    """

    library: Library = "labs"
    """Library of the implementation: labs or rllib."""

    @property
    def agent(self) -> str:
        """One of ``AGENTS``."""
        return f"{self.library}-{self.algorithm}"

    @property
    def label(self) -> str:
        """Name of the trial's directories."""
        return f"{self.agent}-{self.env.rpartition('/')[2]}-seed={self.seed}"


def run_config(library: Library, config: AgentConfig) -> RunConfig:
    """A run with this config; its type has all fields of the config's own type."""
    return _run_type(type(config))(library=library, **vars(config))


@functools.cache
def _run_type(config_type: type[AgentConfig]) -> type[RunConfig]:
    return dataclasses.make_dataclass(
        f"{config_type.__name__}Run", [], bases=(RunConfig, config_type), frozen=True
    )


def train_run(config: RunConfig, resume: Checkpoint | None = None) -> Iterator[Report]:
    """``train_agent`` or ``train_rllib``; the step is the number of environment steps."""
    train = train_rllib if config.library == "rllib" else train_agent
    return train(config, resume)


def check_run(config: RunConfig) -> None:
    """Raise before anything is started if this run cannot be trained.

    Raises:
        InputError: as for ``train_agent`` and ``train_rllib``.
    """
    check_agent(config)
    if config.library == "rllib":
        check_rllib(config)


def plan_runs(
    envs: Sequence[str],
    agents: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: dict[str, int],
    evaluations: int,
    eval_episodes: int,
    learning_rate: float | None = None,
    env_kwargs: tuple[str, ...] = (),
    # More than seven parameters: they are the options of compare_agents.py, one for one.
    wrapper: tuple[str, ...] = (),
) -> list[RunConfig]:
    """All runs of a comparison: environment by environment, agent by agent.

    Args:
        envs: gymnasium ids.
        agents: of ``AGENTS``, or ``module:name`` of a registered algorithm, which has its own
            defaults.
        seeds: one run each.
        steps: environment steps of every run, by environment.
        evaluations: per run, at equal intervals; the last one at its end. The interval is rounded up
            to whole segments, where both libraries can stop.
        eval_episodes: per evaluation.
        learning_rate: of all runs; None uses the tuned ones.
        env_kwargs: keyword arguments of the environment, each ``key=value``.
        wrapper: wrappers of the environment, each ``module:Class``.

    Raises:
        InputError: an unknown agent or environment, a value out of range, or keyword arguments or
            wrappers together with several environments.
    """
    if len(set(envs)) > 1 and (env_kwargs or wrapper):
        name = "env_kwargs" if env_kwargs else "wrapper"
        raise InputError(f"`{name}` belongs to one environment, and there are {len(set(envs))}")
    runs: list[RunConfig] = []
    for env in envs:
        images = _has_images(EnvSettings(env, env_kwargs, wrapper))
        for name in agents:
            library, algorithm = _split(name)
            settings = _hyperparameters(name, env, images)
            if learning_rate is not None:
                settings["learning_rate"] = learning_rate
            config = agent_config(
                algorithm,
                env=env,
                env_kwargs=env_kwargs,
                wrapper=wrapper,
                total_steps=steps[env],
                eval_episodes=eval_episodes,
                **settings,
            )
            rows = config.envs_per_worker * config.segment_length
            interval = math.ceil(steps[env] / evaluations / rows) * rows
            config = dataclasses.replace(config, eval_interval=interval, report_interval=interval)
            runs += [run_config(library, dataclasses.replace(config, seed=seed)) for seed in seeds]
    return runs


def _hyperparameters(agent: str, env: str, images: bool) -> dict[str, Any]:
    """What differs from an algorithm's defaults; nothing for algorithms that RLlib is not compared on."""
    _, algorithm = _split(agent)
    if algorithm not in SETTINGS:
        return {}
    settings = SETTINGS[algorithm] | TUNED.get((algorithm, env), {})
    settings |= {"reward_scale": 1.0, "frame_stack": 1}
    if not images:  # images are never normalised
        settings["normalize_observations"] = False
    if (agent, env) in TUNED_LEARNING_RATES:
        settings["learning_rate"] = TUNED_LEARNING_RATES[agent, env]
    return settings


def _has_images(env: EnvSettings) -> bool:
    probe = make_env(env, 1, 0)
    probe.close()
    return is_image(probe.observation_shape)


def _split(agent: str) -> tuple[Library, str]:
    """Library and algorithm."""
    if agent in AGENTS:
        library, _, algorithm = agent.partition("-")
        return ("rllib" if library == "rllib" else "labs"), algorithm
    if ":" in agent:
        return "labs", find_algorithm(agent).path
    raise InputError(
        f"`agents` {agent} is unknown: use {', '.join(AGENTS)}, or module:name for your own"
        " algorithm"
    )
