"""examples/reinforce.py as the docs page says, from a folder outside the repository."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scripts import ROOT, run_here

from labs.rl.agents import config as registry
from labs.rl.agents.config import AgentConfig, agent_config, find_algorithm, register_algorithm
from labs.rl.agents.networks.base import Spaces
from labs.rl.agents.segments import Segment
from labs.rl.training import train_agent
from labs.runtime.errors import InputError

TINY = ("--total-steps", 2048, "--eval-episodes", 20, "--local-mode")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current directory with the example alone in it, and nothing imported from it."""
    shutil.copy(ROOT / "examples" / "reinforce.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    yield tmp_path
    sys.modules.pop("reinforce", None)
    registry._registered.pop("reinforce", None)


@pytest.mark.slow
def test_it_is_trained_evaluated_recorded_and_compared(tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "reinforce.py", tmp_path)

    def run(name: str, *arguments: object) -> str:
        command = [sys.executable, str(ROOT / "experiments" / f"{name}.py"), *map(str, arguments)]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": ""},
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    told = run("train_agent", "reinforce:reinforce", "--env", "CartPole-v1", *TINY)
    assert told.startswith("reinforce:reinforce on CartPole-v1: seed 0, total_steps 2048,")
    (best,) = tmp_path.glob("runs/train_agent/*/checkpoints/*/best.pt")
    told = run("evaluate_agent", "--checkpoint", best, "--episodes", 20, "--films", 1)
    assert "reinforce after" in told and "video: " in told and ".gif" in told


def test_it_is_compared(folder: Path) -> None:
    agents = ("--agents", "labs-ppo", "reinforce:reinforce", "--envs", "CartPole-v1")
    budget = ("--steps", 2048, "--evaluations", 1, "--eval-episodes", 5, "--seeds", 1)
    assert run_here("compare_agents", *agents, *budget, "--local-mode", "--run-name", "both") == 0
    table = pd.read_csv(folder / "runs" / "compare_agents" / "both" / "runs.csv")
    assert table["agent"].tolist() == ["labs-ppo", "labs-reinforce:reinforce"]
    trials = pd.read_csv(folder / "runs" / "compare_agents" / "both" / "results.csv")
    assert trials["epochs"].notna().tolist() == [True, False]
    assert list(trials).index("baseline_steps") < list(trials).index("status")  # a field of configs
    assert trials["baseline_steps"].notna().tolist() == [False, True]


def test_it_learns_cart_pole_and_resumes_from_a_checkpoint(folder: Path) -> None:
    config = agent_config(
        "reinforce:reinforce", env="CartPole-v1", total_steps=30_000, eval_episodes=20
    )
    config = dataclasses.replace(config, eval_interval=15_000, report_interval=15_000)
    first, last = train_agent(config)
    assert last.metrics["eval/return_mean"] > 300 > 2 * first.metrics["rollout/return_mean"]
    state = next(train_agent(config)).checkpoint()
    assert state["kind"] == "rl.reinforce"
    (resumed,) = train_agent(config, resume=state)
    same = {k: v for k, v in last.metrics.items() if not k.startswith("time/")}
    assert {k: resumed.metrics[k] for k in same} == same


def test_its_returns_are_those_of_a_written_out_loop(folder: Path) -> None:
    config: Any = agent_config("reinforce:reinforce", env="CartPole-v1", gamma=0.9)
    trainer: Any = find_algorithm("reinforce:reinforce").make_trainer(
        config, Spaces((4,), 2, True), 0, torch.device("cpu")
    )
    rng = np.random.default_rng(3)
    shape = (9, 4)
    rewards = rng.normal(size=shape).astype(np.float32)
    terminated = rng.random(shape) < 0.2
    truncated = (rng.random(shape) < 0.2) & ~terminated
    following = rng.normal(size=(*shape, 4)).astype(np.float32)
    segment = Segment(following, None, rewards, terminated, truncated, following, [], 0, 0.0, 0.0)
    with torch.no_grad():
        values = trainer.baseline(torch.from_numpy(following)).squeeze(-1).numpy()
    for n in range(4):
        for t in range(9):
            expected, factor = 0.0, 1.0
            for k in range(t, 9):
                expected += factor * rewards[k, n]
                factor *= 0.9
                if terminated[k, n]:
                    break
                if truncated[k, n] or k == 8:
                    expected += factor * values[k, n]
                    break
            assert trainer.returns(segment)[t, n] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_what_cannot_be_registered_is_refused(folder: Path) -> None:
    assert find_algorithm("reinforce:reinforce").path == "reinforce:reinforce"
    own = find_algorithm("reinforce:reinforce").config_type

    @dataclasses.dataclass
    class Thawed:
        epochs: int = 3

    def make(*rest: Any) -> Any: ...

    for name, config_type, message in (
        ("two words", own, "a name is one word"),
        ("ppo", own, "ppo is built in"),
        ("reinforce", own, "already registered by reinforce"),
        ("other", Thawed, "must be a subclass of AgentConfig"),
        ("other", AgentConfig, "a frozen dataclass of its own"),
    ):
        with pytest.raises(InputError, match=message):
            register_algorithm(name, config_type, make)
    with pytest.raises(InputError, match="module reinforce does not register sarsa"):
        find_algorithm("reinforce:sarsa")
    with pytest.raises(InputError, match="`clip_range` has no effect with `algorithm` reinf"):
        agent_config("reinforce:reinforce", clip_range=0.1)
    with pytest.raises(InputError, match="needs a config of the type PPOAgentConfig"):
        own(env="CartPole-v1")
    assert own(algorithm="reinforce:reinforce").env == "labs/NavigationGoal-v1"
