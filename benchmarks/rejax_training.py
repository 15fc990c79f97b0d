"""rejax's part of benchmarks/agents.py, which runs this file with a Python that has rejax.

Environment (gymnax's CartPole) and learner are one compiled JAX program, without any Python in the
training loop. It needs its own virtual environment, because JAX and torch depend on different
versions of other packages:

    python -m venv rejax && rejax/bin/pip install rejax==0.1.3 gymnax==0.0.9
    python benchmarks/agents.py --rejax-python rejax/bin/python

Prints steps per second of wall and of processor time for the second of two runs, without compilation.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from typing import Any


def make(algorithm: str, steps: int, envs: int) -> Any:
    """The agent with the settings of benchmarks/agents.py, without evaluations."""
    from rejax import get_algo

    shared = {
        "env": "CartPole-v1",
        "num_envs": envs,
        "gamma": 0.99,
        "skip_initial_evaluation": True,
    }
    if algorithm == "ppo":
        agent = get_algo("ppo").create(
            **shared,
            total_timesteps=steps,
            eval_freq=steps,
            learning_rate=3e-4,
            num_steps=128,
            num_minibatches=envs,  # of 128 rows
            num_epochs=4,
            max_grad_norm=0.5,
            ent_coef=0.0,
            agent_kwargs={"activation": "tanh", "hidden_layer_sizes": (64, 64)},
        )
    else:
        agent = get_algo("dqn").create(
            **shared,
            total_timesteps=steps,
            eval_freq=steps,
            learning_rate=1e-3,
            buffer_size=100_000,
            fill_buffer=1000,
            batch_size=128,
            num_epochs=max(1, envs // 10),  # gradient steps after a step of all environments
            target_update_freq=5000,
            ddqn=False,
            max_grad_norm=10.0,
            agent_kwargs={"activation": "relu"},
        )
        # create() fixes the sizes at 64 and 64.
        agent = agent.replace(agent=agent.agent.clone(hidden_layer_sizes=(128, 64)))
    return agent.replace(eval_callback=lambda agent, state, key: 0.0)


def main(algorithm: str, steps: int, envs: int) -> None:
    """Train on CartPole, and print the rates as JSON."""
    import jax

    rows = 128 * envs if algorithm == "ppo" else envs
    steps = -(-steps // rows) * rows
    agent = make(algorithm, steps, envs)
    train = jax.jit(agent.train).lower(jax.random.PRNGKey(0)).compile()
    jax.block_until_ready(train(jax.random.PRNGKey(0)))
    wall, processor = time.perf_counter(), time.process_time()
    jax.block_until_ready(train(jax.random.PRNGKey(1)))
    found = {
        "wall": steps / (time.perf_counter() - wall),
        "processor": steps / (time.process_time() - processor),
    }
    versions = {name: importlib.metadata.version(name) for name in ("rejax", "gymnax", "jax")}
    print(json.dumps({"rates": found, "versions": versions}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
