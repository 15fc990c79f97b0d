"""Environment steps per second of whole training loops: ours, Stable-Baselines3's and RLlib's.

Same environment, networks and hyperparameters, in turns in one process with one torch thread each;
each row is the best of ``--repeats`` runs (RLlib: one run), warm-up and evaluation left out. The
ratio is that of the steps per second of processor time, which on an idle machine is the wall time,
and on a busy one does not count the neighbours' turns. The last columns tell how much of our time
goes to the environment, to choosing actions and to learning.

    pip install -e '.[benchmarks]'
    python benchmarks/agents.py
    python benchmarks/agents.py --workers 0 1 2 --envs 8 32
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import tyro

from labs.rl.agents.config import AgentConfig
from labs.rl.training import train_agent
from labs.runtime.errors import InputError
from labs.runtime.machine.session import connect
from labs.runtime.options import RuntimeOptions

ENV = "CartPole-v1"
RATE = "processor"


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    ppo_steps: int = 60_000
    """Environment steps per measurement of PPO."""

    dqn_steps: int = 30_000
    """Environment steps per measurement of DQN."""

    rllib_part: int = 5
    """RLlib is measured over this part of the steps, 1 over it: its DQN is slow. 0 leaves it out."""

    repeats: int = 3
    """Measurements per row."""

    ppo_envs: int = 8
    """Environments that PPO steps together."""

    dqn_envs: int = 10
    """Environments that DQN steps together."""

    workers: tuple[int, ...] = ()
    """Measure our PPO with these numbers of Ray workers as well, 0 for none ..."""

    envs: tuple[int, ...] = (8,)
    """... and with so many environments per worker."""


class Clocks:
    """Wall time and this process's processor time since it was made."""

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def wall(self) -> float:
        return time.perf_counter() - self._wall

    def rates(self, steps: int) -> dict[str, float]:
        """Steps per second by either clock."""
        return {"wall": steps / self.wall(), RATE: steps / (time.process_time() - self._processor)}


def settings(algorithm: str, steps: int, envs: int, workers: int = 0) -> AgentConfig:
    """What all of them train with; a fifth of the steps more, to warm up."""
    chosen: dict[str, dict[str, Any]] = {
        "ppo": {
            "segment_length": 128,
            "batch_size": 128,
            "hidden_sizes": (64, 64),
            "activation": "tanh",
            "learning_rate": 3e-4,
            "normalize_rewards": False,
            "entropy_coefficient": 0.0,
        },
        "dqn": {
            "segment_length": 8,
            "n_step": 1,
            "double_q": False,  # Stable-Baselines3 has no double Q
            "batch_size": 128,
            "update_interval": 10,
            "learning_starts": 1000,
            "target_interval": 500,
            "hidden_sizes": (128, 64),
            "activation": "relu",
            "learning_rate": 1e-3,
        },
    }
    return AgentConfig(
        algorithm=algorithm,
        env=ENV,
        total_steps=steps // 5 + steps,
        envs_per_worker=envs,
        num_workers=workers,
        report_interval=steps // 5,
        eval_interval=10 * steps,
        eval_episodes=1,
        **{"normalize_observations": False, "anneal": False, **chosen[algorithm]},
    )


def own(algorithm: str, steps: int, envs: int, workers: int = 0) -> dict[str, float]:
    """One training run; its rates, and the shares of its parts, over all steps but a warm-up."""
    reports = train_agent(settings(algorithm, steps, envs, workers))
    first = next(reports)
    clocks = Clocks()
    seconds = dict.fromkeys(("environment", "inference", "learning"), 0.0)
    for report in reports:
        for part in seconds:
            seconds[part] += report.metrics[f"time/{part}_seconds"]
        if report.step >= steps:  # what follows includes the evaluation at the end
            break
    found, elapsed = clocks.rates(report.step - first.step), clocks.wall()
    return found | {part: value / elapsed for part, value in seconds.items()}


def rllib(algorithm: str, steps: int, envs: int) -> dict[str, float]:
    """The same training by RLlib, from after its first fifth on."""
    from labs.rl.comparison.rllib import train_rllib

    config = settings(algorithm, steps, envs)
    reports = train_rllib(dataclasses.replace(config, eval_interval=steps // 5))
    first = next(reports)
    clocks = Clocks()
    for report in reports:
        pass
    return clocks.rates(report.step - first.step)


def stable_baselines(algorithm: str, steps: int, envs: int) -> dict[str, float]:
    """The same training by Stable-Baselines3, from after its first rollouts on."""
    from stable_baselines3 import DQN, PPO
    from stable_baselines3.common.callbacks import BaseCallback
    from stable_baselines3.common.env_util import make_vec_env

    class Watch(BaseCallback):  # type: ignore[misc, unused-ignore]  # not always installed
        clocks: Clocks | None = None
        began = 0

        def _on_step(self) -> bool:
            if self.clocks is None and self.num_timesteps >= steps // 5:
                self.clocks, self.began = Clocks(), self.num_timesteps
            return True

    environment = make_vec_env(ENV, envs)
    if algorithm == "ppo":
        agent: Any = PPO(
            "MlpPolicy",
            environment,
            learning_rate=3e-4,
            n_steps=128,
            batch_size=128,
            n_epochs=4,
            policy_kwargs={"net_arch": [64, 64], "activation_fn": torch.nn.Tanh},
            device="cpu",
        )
    else:
        agent = DQN(
            "MlpPolicy",
            environment,
            learning_rate=1e-3,
            buffer_size=100_000,
            learning_starts=1000,
            batch_size=128,
            train_freq=max(1, 10 // envs),
            gradient_steps=max(1, envs // 10),
            target_update_interval=5000,
            policy_kwargs={"net_arch": [128, 64], "activation_fn": torch.nn.ReLU},
            device="cpu",
        )
    watch = Watch()
    agent.learn(steps + steps // 5, callback=watch)
    assert watch.clocks is not None, "it ended before the warm-up did"
    return watch.clocks.rates(agent.num_timesteps - watch.began)


def best(repeats: int, *measures: Callable[[], dict[str, float]]) -> list[dict[str, float]]:
    """The fastest run of each, measured in turns so that all meet the same machine."""
    runs = [[measure() for measure in measures] for _ in range(repeats)]
    return [max(found, key=lambda one: one[RATE]) for found in zip(*runs, strict=True)]


def show(name: str, found: dict[str, float]) -> None:
    parts = [f"{k} {v:.0%}" for k, v in found.items() if k not in ("wall", RATE)]
    print(
        f"{name:40s} {found['wall']:7,.0f} steps/s, {found[RATE]:7,.0f} per processor second"
        f"  {', '.join(parts)}",
        flush=True,
    )


def main(config: Config) -> None:
    if config.repeats < 1:
        raise InputError(f"--repeats {config.repeats} must be at least 1")
    if importlib.util.find_spec("stable_baselines3") is None:
        raise InputError("Stable-Baselines3 is missing: pip install -e '.[benchmarks]'")
    torch.set_num_threads(1)
    print(f"{ENV}, torch {torch.__version__}, one thread")
    for algorithm, steps, envs in (
        ("ppo", config.ppo_steps, config.ppo_envs),
        ("dqn", config.dqn_steps, config.dqn_envs),
    ):
        ours, theirs = best(
            config.repeats,
            partial(own, algorithm, steps, envs),
            partial(stable_baselines, algorithm, steps, envs),
        )
        show(f"{algorithm}, {envs} environments", ours)
        show(f"{algorithm}, {envs} environments, Stable-Baselines3", theirs)
        print(f"{algorithm}: ratio {ours[RATE] / theirs[RATE]:.2f}", flush=True)
        if config.rllib_part:
            with connect(RuntimeOptions(num_cpus=1)):  # or RLlib starts a Ray of its own
                theirs = rllib(algorithm, steps // config.rllib_part, envs)
            show(f"{algorithm}, {envs} environments, RLlib", theirs)
            print(f"{algorithm}: ratio {ours[RATE] / theirs[RATE]:.2f}", flush=True)
    if config.workers:
        with connect(RuntimeOptions(num_cpus=1 + max(config.workers))):
            for workers in config.workers:
                for envs in config.envs:
                    measure = partial(own, "ppo", config.ppo_steps, envs, workers)
                    (found,) = best(config.repeats, measure)
                    show(f"ppo, {workers} workers, {envs} environments each", found)


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except InputError as error:
        sys.exit(f"error: {error}")
