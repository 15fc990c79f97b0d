"""Environment steps per second of whole training loops: ours, Stable-Baselines3's, SBX's, rejax's, RLlib's.

Same environment, networks and hyperparameters, one after another with one thread each; each row
is the best of ``--repeats`` runs (RLlib: one run), without warm-up and evaluation. Ours has two rows:
our own implementation of CartPole steps all copies at once; any other environment is stepped copy by copy
in a loop. The ratios are those of the steps per second of processor time, which on an
idle machine equals the wall time, and on a busy one does not include waiting for other programs. The last
columns show the shares of our time for the environment, for choosing actions and for learning.

    pip install -e '.[benchmarks]'
    python benchmarks/agents.py
    python benchmarks/agents.py --sbx-python sbx/bin/python --rejax-python rejax/bin/python

(benchmarks/sbx_training.py and rejax_training.py say how to create these virtual environments. rejax
compiles environment and learner into one program: its row shows what that gains.)

    python benchmarks/agents.py --ppo-steps 0 --dqn-steps 0 --repeats 2 --workers 0 1 2

The last one measures rollout workers, with a CartPole whose step is slowed down.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import tyro

from labs.rl.agents.config import AgentConfig
from labs.rl.rollouts.advice import step_microseconds
from labs.rl.training import train_agent
from labs.runtime.errors import InputError
from labs.runtime.machine.session import connect
from labs.runtime.options import RuntimeOptions

ENV = "CartPole-v1"
GENERIC = ("sutton_barto_reward=false",)
"""CartPole's default; with any keyword argument it is stepped copy by copy, like other environments."""
RATE = "processor"
VERSIONS: dict[str, dict[str, str]] = {}
"""Versions of the packages of libraries that run in another Python."""


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    ppo_steps: int = 60_000
    """Environment steps per measurement of PPO; 0 skips it."""

    dqn_steps: int = 30_000
    """Environment steps per measurement of DQN; 0 skips it."""

    sbx_python: Path | None = None
    """A Python with sbx-rl. Without it SBX is skipped."""

    rejax_python: Path | None = None
    """A Python with rejax. Without it rejax is skipped."""

    rllib_part: int = 5
    """RLlib runs the steps divided by this number, because its DQN is slow. 0 skips it."""

    repeats: int = 3
    """Measurements per row."""

    ppo_envs: int = 8
    """Environments that PPO steps together."""

    dqn_envs: int = 10
    """Environments that DQN steps together."""

    workers: tuple[int, ...] = ()
    """Also measure our PPO with these numbers of Ray workers; 0 is without workers."""

    envs: int = 8
    """Total number of environments of the measurement with workers."""

    step_microseconds: tuple[int, ...] = (0, 30, 100, 1000)
    """How much longer a step of these environments takes than CartPole's."""

    worker_steps: int = 8_000
    """Environment steps per measurement with workers."""


class Clocks:
    """Wall time and this process's processor time since it was created."""

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def wall(self) -> float:
        """Wall time in seconds."""
        return time.perf_counter() - self._wall

    def rates(self, steps: int) -> dict[str, float]:
        """Steps per second by each clock."""
        return {"wall": steps / self.wall(), RATE: steps / (time.process_time() - self._processor)}


def settings(algorithm: str, steps: int, envs: int, **options: Any) -> AgentConfig:
    """The config that all libraries train with; a fifth of the steps is added to warm up."""
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
        total_steps=steps // 5 + steps,
        envs_per_worker=envs,
        report_interval=steps // 5,
        eval_interval=10 * steps,
        eval_episodes=1,
        **{
            "env": ENV,
            "normalize_observations": False,
            "anneal": False,
            **chosen[algorithm],
            **options,
        },
    )


def own(algorithm: str, steps: int, envs: int, **options: Any) -> dict[str, float]:
    """One training run: its rates, and the shares of its parts, over all steps after the warm-up."""
    reports = train_agent(settings(algorithm, steps, envs, **options))
    first = next(reports)
    clocks = Clocks()
    seconds = dict.fromkeys(("environment", "inference", "learning"), 0.0)
    for report in reports:
        for part in seconds:
            seconds[part] += report.metrics[f"time/{part}_seconds"]
        if report.step >= steps:  # later reports include the evaluation at the end
            break
    found, elapsed = clocks.rates(report.step - first.step), clocks.wall()
    return found | {part: value / elapsed for part, value in seconds.items()}


def rllib(algorithm: str, steps: int, envs: int) -> dict[str, float]:
    """The same training by RLlib, measured after its first fifth."""
    from labs.rl.comparison.rllib import train_rllib

    config = settings(algorithm, steps, envs)
    reports = train_rllib(dataclasses.replace(config, eval_interval=steps // 5))
    first = next(reports)
    clocks = Clocks()
    *_, last = reports
    return clocks.rates(last.step - first.step)


def stable_baselines(algorithm: str, steps: int, envs: int) -> dict[str, float]:
    """The same training by Stable-Baselines3, measured after its first fifth."""
    from stable_baselines3 import DQN, PPO
    from stable_baselines3.common.env_util import make_vec_env

    began: list[tuple[int, Clocks]] = []

    def watch(variables: dict[str, Any], _: dict[str, Any]) -> bool:
        if not began and variables["self"].num_timesteps >= steps // 5:
            began.append((variables["self"].num_timesteps, Clocks()))
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
    agent.learn(steps + steps // 5, callback=watch)
    ((step, clocks),) = began
    return clocks.rates(agent.num_timesteps - step)


def elsewhere(name: str, python: Path, algorithm: str, steps: int, envs: int) -> dict[str, float]:
    """The same training by another library, in a process with its own Python."""
    script = Path(__file__).parent / f"{name}_training.py"
    one_thread = {
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
        **{f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")},
    }
    done = subprocess.run(
        [str(python), str(script), algorithm, str(steps), str(envs)],
        env={**os.environ, **one_thread},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise InputError(f"--{name}-python {python}: {done.stderr.strip().splitlines()[-1]}")
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    if name not in VERSIONS:
        VERSIONS[name] = answer["versions"]
        print(", ".join(f"{package} {v}" for package, v in VERSIONS[name].items()), flush=True)
    return answer["rates"]


def best(
    repeats: int, *measures: Callable[[], dict[str, float]], clock: str = RATE
) -> list[dict[str, float]]:
    """The fastest run of each, measured in turn, so that the machine's load is the same for all."""
    runs = [[measure() for measure in measures] for _ in range(repeats)]
    return [max(found, key=lambda one: one[clock]) for found in zip(*runs, strict=True)]


def show(name: str, found: dict[str, float]) -> None:
    """Print one row."""
    parts = [f"{k} {v:.0%}" for k, v in found.items() if k not in ("wall", RATE)]
    print(
        f"{name:40s} {found['wall']:7,.0f} steps/s, {found[RATE]:7,.0f} per processor second"
        f"  {', '.join(parts)}",
        flush=True,
    )


def compare(config: Config, algorithm: str, steps: int, envs: int) -> None:
    """Print our two rows, those of the other libraries, and the ratios."""
    measures: dict[str, Callable[[], dict[str, float]]] = {
        "our CartPole": partial(own, algorithm, steps, envs),
        "any environment": partial(own, algorithm, steps, envs, env_kwargs=GENERIC),
        "Stable-Baselines3": partial(stable_baselines, algorithm, steps, envs),
    }
    if config.sbx_python is not None:
        measures["SBX"] = partial(elsewhere, "sbx", config.sbx_python, algorithm, steps, envs)
    if config.rejax_python is not None:
        rejax = partial(elsewhere, "rejax", config.rejax_python, algorithm, steps, envs)
        measures["rejax, all compiled"] = rejax
    rows = dict(zip(measures, best(config.repeats, *measures.values()), strict=True))
    if config.rllib_part:
        with connect(RuntimeOptions(num_cpus=1)):  # otherwise RLlib starts its own Ray
            rows["RLlib"] = rllib(algorithm, steps // config.rllib_part, envs)
    for name, found in rows.items():
        show(f"{algorithm}, {envs} environments, {name}", found)
    for other in list(rows)[2:]:
        for name in ("any environment", "our CartPole"):
            ratio = rows[name][RATE] / rows[other][RATE]
            print(f"{algorithm}: {name} / {other}: {ratio:.2f}", flush=True)


def compare_workers(config: Config) -> None:
    """Print steps per second of our PPO with and without workers, a row for each cost of a step."""
    with connect(RuntimeOptions(num_cpus=1 + max(config.workers))):
        columns = " ".join(f"{workers:>5d} workers" for workers in config.workers)
        print(f"steps/s by the wall clock, {config.envs} environments\na step takes  {columns}")
        for microseconds in config.step_microseconds:
            slow: dict[str, Any] = {
                "env": "slow_cartpole:benchmarks/Slow-v0",
                "env_kwargs": (f"microseconds={microseconds}",),
            }
            measures = [
                partial(own, "ppo", config.worker_steps, envs, num_workers=workers, **slow)
                for workers in config.workers
                for envs in (config.envs // max(1, workers),)
            ]
            rates = [found["wall"] for found in best(config.repeats, *measures, clock="wall")]
            cost = step_microseconds(settings("ppo", config.worker_steps, config.envs, **slow))
            row = " ".join(f"{rate:13,.0f}" for rate in rates)
            print(
                f"{cost:9,.0f} us  {row}   {max(rates) / rates[0]:.2f} times the first", flush=True
            )


def main(config: Config) -> None:
    """Print a row per measurement.

    Raises:
        InputError: a number is out of range, or another library is missing.
    """
    if config.repeats < 1:
        raise InputError(f"--repeats {config.repeats} must be at least 1")
    if any(config.envs % max(1, workers) for workers in config.workers):
        raise InputError(f"--envs {config.envs} must be a multiple of each of --workers")
    if importlib.util.find_spec("stable_baselines3") is None:
        raise InputError("Stable-Baselines3 is missing: pip install -e '.[benchmarks]'")
    torch.set_num_threads(1)
    print(f"{ENV}, torch {torch.__version__}, one thread, best of {config.repeats}")
    if config.ppo_steps:
        compare(config, "ppo", config.ppo_steps, config.ppo_envs)
    if config.dqn_steps:
        compare(config, "dqn", config.dqn_steps, config.dqn_envs)
    if config.workers:
        compare_workers(config)


if __name__ == "__main__":
    try:
        main(tyro.cli(Config, description=__doc__))
    except InputError as error:
        sys.exit(f"error: {error}")
