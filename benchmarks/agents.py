"""Environment steps per second of whole training loops: ours, Stable-Baselines3's, SBX's and RLlib's.

Same environment, networks and hyperparameters, one after another with one thread each; each row
is the best of ``--repeats`` runs (RLlib: one run), warm-up and evaluation left out. Ours has two rows:
CartPole has an environment of our own that steps all copies at once, and the loop over copies is what
any other environment gets. The ratios are those of the steps per second of processor time, which on an
idle machine is the wall time, and on a busy one does not count the neighbours' turns. The last columns
tell how much of our time goes to the environment, to choosing actions and to learning.

    pip install -e '.[benchmarks]'
    python benchmarks/agents.py
    python benchmarks/agents.py --sbx-python sbx/bin/python   # see benchmarks/sbx_training.py
    python benchmarks/agents.py --ppo-steps 0 --dqn-steps 0 --workers 0 1 2 --step-microseconds 0 100 1000

The last one measures rollout workers: CartPole whose step takes so much longer.
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

import gymnasium
import torch
import tyro
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

from labs.rl.agents.config import AgentConfig
from labs.rl.training import train_agent
from labs.runtime.errors import InputError
from labs.runtime.machine.session import connect
from labs.runtime.options import RuntimeOptions

ENV = "CartPole-v1"
GENERIC = ("sutton_barto_reward=false",)
"""CartPole's default; with any keyword argument it is stepped copy by copy, as other environments are."""
RATE = "processor"
SBX_VERSIONS: dict[str, str] = {}


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    ppo_steps: int = 60_000
    """Environment steps per measurement of PPO; 0 leaves it out."""

    dqn_steps: int = 30_000
    """Environment steps per measurement of DQN; 0 leaves it out."""

    sbx_python: Path | None = None
    """A Python that has sbx-rl. Without it SBX is left out."""

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

    envs: int = 8
    """... with so many environments in all ..."""

    step_microseconds: tuple[int, ...] = (0,)
    """... whose step takes so much longer."""

    worker_steps: int = 20_000
    """Environment steps per measurement with workers."""


class Slow(CartPoleEnv):
    """CartPole whose step keeps the processor busy for longer."""

    def __init__(self, microseconds: int = 0, render_mode: str | None = None) -> None:
        super().__init__(render_mode=render_mode)
        self._seconds = microseconds * 1e-6

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """CartPole's step, later."""
        until = time.perf_counter() + self._seconds
        found: Any = CartPoleEnv.step(self, action)
        while time.perf_counter() < until:
            pass
        return found


if "benchmarks/Slow-v0" not in gymnasium.registry:  # workers import this file as a module
    gymnasium.register("benchmarks/Slow-v0", "agents:Slow", max_episode_steps=500)


class Clocks:
    """Wall time and this process's processor time since it was made."""

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def wall(self) -> float:
        """Seconds."""
        return time.perf_counter() - self._wall

    def rates(self, steps: int) -> dict[str, float]:
        """Steps per second by either clock."""
        return {"wall": steps / self.wall(), RATE: steps / (time.process_time() - self._processor)}


def settings(algorithm: str, steps: int, envs: int, **options: Any) -> AgentConfig:
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
    """One training run; its rates, and the shares of its parts, over all steps but a warm-up."""
    reports = train_agent(settings(algorithm, steps, envs, **options))
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
    *_, last = reports
    return clocks.rates(last.step - first.step)


def stable_baselines(algorithm: str, steps: int, envs: int) -> dict[str, float]:
    """The same training by Stable-Baselines3, from after its first rollouts on."""
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


def sbx(python: Path, algorithm: str, steps: int, envs: int) -> dict[str, float]:
    """The same training by SBX, in a process with a Python of its own."""
    script = Path(__file__).parent / "sbx_training.py"
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
        raise InputError(f"--sbx-python {python}: {done.stderr.strip().splitlines()[-1]}")
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    if not SBX_VERSIONS:
        SBX_VERSIONS.update(answer["versions"])
        print(f"SBX: {', '.join(f'{name} {v}' for name, v in SBX_VERSIONS.items())}", flush=True)
    return answer["rates"]


def best(repeats: int, *measures: Callable[[], dict[str, float]]) -> list[dict[str, float]]:
    """The fastest run of each, measured in turns so that all meet the same machine."""
    runs = [[measure() for measure in measures] for _ in range(repeats)]
    return [max(found, key=lambda one: one[RATE]) for found in zip(*runs, strict=True)]


def show(name: str, found: dict[str, float]) -> None:
    """One row."""
    parts = [f"{k} {v:.0%}" for k, v in found.items() if k not in ("wall", RATE)]
    print(
        f"{name:40s} {found['wall']:7,.0f} steps/s, {found[RATE]:7,.0f} per processor second"
        f"  {', '.join(parts)}",
        flush=True,
    )


def compare(config: Config, algorithm: str, steps: int, envs: int) -> None:
    """Our two rows, the rivals', and the ratios."""
    measures: dict[str, Callable[[], dict[str, float]]] = {
        "our CartPole": partial(own, algorithm, steps, envs),
        "any environment": partial(own, algorithm, steps, envs, env_kwargs=GENERIC),
        "Stable-Baselines3": partial(stable_baselines, algorithm, steps, envs),
    }
    if config.sbx_python is not None:
        measures["SBX"] = partial(sbx, config.sbx_python, algorithm, steps, envs)
    rows = dict(zip(measures, best(config.repeats, *measures.values()), strict=True))
    if config.rllib_part:
        with connect(RuntimeOptions(num_cpus=1)):  # or RLlib starts a Ray of its own
            rows["RLlib"] = rllib(algorithm, steps // config.rllib_part, envs)
    for name, found in rows.items():
        show(f"{algorithm}, {envs} environments, {name}", found)
    for rival in list(rows)[2:]:
        for name in ("any environment", "our CartPole"):
            ratio = rows[name][RATE] / rows[rival][RATE]
            print(f"{algorithm}: {name} / {rival}: {ratio:.2f}", flush=True)


def compare_workers(config: Config) -> None:
    """Our PPO with and without workers, for each cost of a step; by the wall clock."""
    with connect(RuntimeOptions(num_cpus=1 + max(config.workers))):
        for microseconds in config.step_microseconds:
            for workers in config.workers:
                measure = partial(
                    own,
                    "ppo",
                    config.worker_steps,
                    config.envs // max(1, workers),
                    num_workers=workers,
                    env="agents:benchmarks/Slow-v0",
                    env_kwargs=(f"microseconds={microseconds}",),
                )
                (found,) = best(config.repeats, measure)
                show(f"step + {microseconds} us, {workers} workers", found)


def main(config: Config) -> None:
    """Print a row per measurement.

    Raises:
        InputError: a number is out of range, or a rival is missing.
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
