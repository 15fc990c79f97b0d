"""Training as a whole: it learns, it repeats itself, it goes on, and it refuses what is wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labs.rl.agents.config import AgentConfig
from labs.rl.agents.policies import load_policy
from labs.rl.training import check_agent, train_agent
from labs.runtime.checkpoints import load_checkpoint, save_checkpoint, to_bytes
from labs.runtime.errors import InputError
from labs.runtime.reports import Report

SMALL: dict[str, dict[str, Any]] = {
    "ppo": {"envs_per_worker": 4, "segment_length": 32, "batch_size": 64},
    "dqn": {
        "envs_per_worker": 4,
        "segment_length": 8,
        "batch_size": 32,
        "learning_starts": 100,
        "update_interval": 4,
    },
}


def small(algorithm: str, env: str, total_steps: int, **options: Any) -> AgentConfig:
    return AgentConfig(
        **{
            "algorithm": algorithm,
            "env": env,
            "total_steps": total_steps,
            "hidden_sizes": (32,),
            "eval_episodes": 20,
            "eval_interval": 512,
            "report_interval": 256,
            **SMALL[algorithm],
            **options,
        }
    )


def untimed(reports: list[Report]) -> list[tuple[int, dict[str, float]]]:
    return [
        (r.step, {k: v for k, v in r.metrics.items() if not k.startswith("time/")}) for r in reports
    ]


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_solves_the_identity_environment(algorithm: str) -> None:
    """Ten rewards of 1 per episode; chance gives 2.5."""
    config = small(
        algorithm,
        "agent_environments:test/Identity-v0",
        6000,
        gamma=0.5,
        learning_rate=0.005,
        **({"n_step": 1} if algorithm == "dqn" else {}),
    )
    *_, last = train_agent(config)
    assert last.metrics["eval/return_mean"] == 10
    assert last.step >= 6000


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_agents_learn_from_images(algorithm: str) -> None:
    """Ten rewards of 1 per episode; chance gives 2.5."""
    config = small(
        algorithm,
        "agent_environments:test/Quarters-v0",
        4096,
        gamma=0.0,
        learning_rate=0.005,
        eval_interval=4096,
        **({"n_step": 1, "replay_size": 5000} if algorithm == "dqn" else {}),
    )
    *_, last = train_agent(config)
    assert last.metrics["eval/return_mean"] > 9
    checkpoint = last.checkpoint()
    assert checkpoint["policy"]["spec"]["observation_shape"] == (1, 8, 8)
    if algorithm == "dqn":  # a byte per pixel
        assert checkpoint["trainer"]["learner"]["replay"]["rows"][0].dtype == torch.uint8


def test_a_custom_network_is_trained_saved_and_resumed(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of docs/agents.md, named by module and function, in the current directory."""
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "agents.md").read_text()
    (code,) = re.findall(r"```python\n(from torch import nn\n.*?)```", page, re.DOTALL)
    (tmp_path / "gated.py").write_text(code)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for algorithm in ("ppo", "dqn"):
        options = SMALL[algorithm] | {"eval_episodes": 20, "learning_rate": 0.005, "gamma": 0.5}
        config = AgentConfig(
            algorithm=algorithm,
            env="agent_environments:test/Identity-v0",
            total_steps=6000,
            eval_interval=3000,
            report_interval=3000,
            network="gated:make_network",
            **options,
            **({"n_step": 1} if algorithm == "dqn" else {}),
        )
        _, last = train_agent(config)
        assert last.metrics["eval/return_mean"] == 10
        (tmp_path / "agent.pt").write_bytes(to_bytes(last.checkpoint()))
        policy = load_policy(tmp_path / "agent.pt").policy
        assert policy.spec.network == "gated:make_network"
        assert policy.act(np.eye(4, dtype=np.float32)).tolist() == [0, 1, 2, 3]
        if algorithm == "ppo":
            continue
        middle = reload(to_bytes(next(train_agent(config)).checkpoint()))
        (resumed,) = train_agent(config, resume=middle)
        assert untimed([resumed]) == untimed([last])


def test_ppo_learns_continuous_actions() -> None:
    """1 minus the mean distance to the target per step; actions of 0 would give 5."""
    config = small(
        "ppo",
        "agent_environments:test/ContinuousIdentity-v0",
        12_000,
        gamma=0.5,
        learning_rate=0.005,
        action_std="decay",
    )
    *_, last = train_agent(config)
    assert last.metrics["eval/return_mean"] > 9


@pytest.mark.parametrize(
    ("env", "algorithm", "worst", "best"),
    [
        ("LunarLander-v3", "ppo", -900, 100),
        ("LunarLander-v3", "dqn", -900, 100),
        ("LunarLanderContinuous-v3", "ppo", -900, 100),
        ("Pendulum-v1", "ppo", -2000, -100),
        ("FrozenLake-v1", "dqn", 0, 1),
    ],
)
def test_other_environments_train_and_return_what_they_should(
    env: str, algorithm: str, worst: float, best: float
) -> None:
    """Hardly trained, they return what random actions do: crashes, swings, and a hole in the ice."""
    *_, last = train_agent(small(algorithm, env, 1024, eval_interval=1024))
    assert last.step >= 1024
    assert worst <= last.metrics["eval/return_mean"] <= best
    assert 1 <= last.metrics["eval/length_mean"] <= 1000
    loss = "train/policy_loss" if algorithm == "ppo" else "train/loss"
    assert np.isfinite(last.metrics[loss])


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
@pytest.mark.parametrize("env", ["labs/NavigationGoal-v1", "Acrobot-v1"])
def test_same_seed_same_numbers_and_resuming_equals_an_uninterrupted_training(
    algorithm: str, env: str
) -> None:
    options: dict[str, Any] = {"frame_stack": 2, "eval_episodes": 8}
    if env == "Acrobot-v1":  # which takes 500 steps otherwise
        options["env_kwargs"] = ("max_episode_steps=60",)
    config = small(algorithm, env, 1536, **options)
    whole = list(train_agent(config))
    end = to_bytes(whole[-1].checkpoint())
    again, middle = [], None
    for report in train_agent(config):
        again.append(report)
        if report.step >= 700 and middle is None:
            middle = to_bytes(report.checkpoint())
            at = len(again)
    assert untimed(again) == untimed(whole)
    different = list(train_agent(small(algorithm, env, 1536, seed=1, **options)))
    assert untimed(different) != untimed(whole)

    resumed = list(train_agent(config, resume=reload(middle)))
    assert untimed(resumed) == untimed(whole)[at:]
    resumed_end, whole_end = reload(to_bytes(resumed[-1].checkpoint())), reload(end)
    assert resumed_end.pop("seconds") > 0 and whole_end.pop("seconds") > 0  # of the clock's
    assert same(resumed_end, whole_end)
    assert list(train_agent(config, resume=reload(end))) == []


def reload(content: bytes) -> dict[str, Any]:
    import io

    return torch.load(io.BytesIO(content), weights_only=True)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def test_dqn_takes_one_gradient_step_per_interval() -> None:
    config = small("dqn", "CartPole-v1", 1024, update_interval=10, learning_starts=256)
    *_, last = train_agent(config)
    state = last.checkpoint()["trainer"]
    assert state["learner"]["version"] == (1024 - 256) // 10
    assert state["owed"] == (1024 - 256) % 10
    assert last.metrics["train/parameter_age"] == 0


def test_a_saved_policy_acts_as_the_one_that_was_evaluated(tmp_path: Any) -> None:
    from labs.rl.evaluation import episode_metrics, evaluate

    config = small("ppo", "CartPole-v1", 1024, frame_stack=2)
    *_, last = train_agent(config)
    save_checkpoint(tmp_path / "agent.pt", last.checkpoint())
    saved = load_policy(tmp_path / "agent.pt")
    assert (saved.algorithm, saved.env_id) == ("ppo", "CartPole-v1")
    assert (saved.frame_stack, saved.step) == (2, last.step)
    seed = np.random.SeedSequence(config.seed).generate_state(3).tolist()[2]
    result = evaluate(saved.policy, saved.env_id, 20, seed, frame_stack=2)
    assert episode_metrics(result.episodes)["return_mean"] == last.metrics["eval/return_mean"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env": "CartPol-v1"}, "did you mean CartPole-v1"),
        ({"algorithm": "dqn", "env": "Pendulum-v1"}, "dqn needs discrete actions"),
        (
            {"batch_size": 200_000, "algorithm": "dqn"},
            "`batch_size` 200000 is larger than `replay",
        ),
        ({"batch_size": 99_999}, "`batch_size` 99999 is larger than the"),
        ({"segment_length": 2, "algorithm": "dqn"}, "`segment_length` 2 is shorter than `n_step`"),
        ({"num_workers": -1}, "`num_workers` -1"),
        ({"network": "no_networks:make"}, "`network`: there is no module no_networks"),
        ({"network": "torch.nn:Linear"}, "`network` torch.nn:Linear raises TypeError"),
        ({"network": "a:b", "hidden_sizes": (8,)}, "`hidden_sizes` .* no effect: `network` makes"),
        ({"network": "a:b", "algorithm": "dqn", "activation": "relu"}, "`activation` relu has no"),
        ({"total_steps": 0}, "`total_steps` 0"),
        ({"learning_rate": 0.0}, "`learning_rate` 0.0"),
        (
            {"env": "agent_environments:test/Quarters-v0", "normalize_observations": False},
            "`normalize_observations` False has no effect: the observations of .* are images",
        ),
    ],
)
def test_bad_input_is_one_clear_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_agent(AgentConfig(**options))


def test_a_checkpoint_of_something_else_is_refused() -> None:
    config = small("ppo", "CartPole-v1", 1024)
    checkpoint = next(train_agent(config)).checkpoint()
    for other, message in (
        (small("dqn", "CartPole-v1", 1024), "kind rl.ppo and this run has rl.dqn"),
        (small("ppo", "Acrobot-v1", 1024), "environment CartPole-v1 and this run has Acrobot-v1"),
        (small("ppo", "CartPole-v1", 1024, hidden_sizes=(16,)), "network .*32.*this run .*16"),
        (small("ppo", "CartPole-v1", 1024, frame_stack=3), "frame stack 1 and this run has 3"),
    ):
        with pytest.raises(InputError, match=message):
            next(train_agent(other, resume=checkpoint))


def test_an_environment_that_returns_nan_stops_the_run_and_names_the_step() -> None:
    with pytest.raises(InputError, match="nan at step 50"):
        list(train_agent(small("ppo", "agent_environments:test/Nan-v0", 4096)))


def test_learners_import_neither_ray_nor_gymnasium() -> None:
    program = (
        "import sys, labs.rl.agents.ppo, labs.rl.agents.dqn\n"
        "print([name for name in ('ray', 'gymnasium') if name in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": ""}
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    )
    assert found.stdout.strip() == "[]"


def test_a_checkpoint_is_plain_data(tmp_path: Any) -> None:
    """Environment states hold integers of 128 bits; loading runs no code."""
    report = next(train_agent(small("dqn", "Acrobot-v1", 512)))
    save_checkpoint(tmp_path / "agent.pt", report.checkpoint())
    loaded = load_checkpoint(tmp_path / "agent.pt", kind="rl.dqn")
    assert same(loaded, reload(to_bytes(report.checkpoint())))
