"""SBX's part of benchmarks/agents.py, which runs this file with a Python that has sbx-rl.

The dependencies of JAX and torch conflict, so SBX needs its own environment:

    python -m venv sbx && sbx/bin/pip install sbx-rl
    python benchmarks/agents.py --sbx-python sbx/bin/python

Prints steps per second of wall time and of processor time, after a fifth of the steps for compilation.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from typing import Any


def main(algorithm: str, steps: int, envs: int) -> None:
    """Train on CartPole with the settings of benchmarks/agents.py, and print the rates as JSON."""
    from sbx import DQN, PPO
    from stable_baselines3.common.env_util import make_vec_env

    began: list[tuple[int, float, float]] = []

    def watch(variables: dict[str, Any], _: dict[str, Any]) -> bool:
        if not began and variables["self"].num_timesteps >= steps // 5:
            now = time.perf_counter(), time.process_time()
            began.append((variables["self"].num_timesteps, *now))
        return True

    environment = make_vec_env("CartPole-v1", envs)
    if algorithm == "ppo":
        agent: Any = PPO(
            "MlpPolicy",
            environment,
            learning_rate=3e-4,
            n_steps=128,
            batch_size=128,
            n_epochs=4,
            ent_coef=0.0,
            policy_kwargs={"net_arch": [64, 64]},
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
            policy_kwargs={"net_arch": [128, 64]},
        )
    agent.learn(steps + steps // 5, callback=watch)
    ((step, wall, processor),) = began
    done = agent.num_timesteps - step
    found = {
        "wall": done / (time.perf_counter() - wall),
        "processor": done / (time.process_time() - processor),
    }
    versions = {name: importlib.metadata.version(name) for name in ("sbx-rl", "jax")}
    print(json.dumps({"rates": found, "versions": versions}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
