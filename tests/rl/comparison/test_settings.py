"""The settings that both libraries get, and the agents of a comparison. Without Ray."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from scripts import load_script

from labs.rl.agents.config import agent_config
from labs.rl.comparison import rllib
from labs.rl.comparison.settings import AGENTS, RunConfig, check_run, plan_runs
from labs.runtime.errors import InputError


def runs(env: str = "CartPole-v1", steps: int = 600, **options: Any) -> dict[str, RunConfig]:
    plan: dict[str, Any] = {"steps": {env: steps}, "evaluations": 2, "eval_episodes": 10, **options}
    return {config.agent: config for config in plan_runs([env], AGENTS, [3], **plan)}


COMMON = {
    "env": "CartPole-v1",
    "envs_per_worker": 6,
    "anneal": False,
    "total_steps": 9000,
    "normalize_observations": False,
}
"""Options of both algorithms below, in addition to those whose values are checked."""


def common(**values: float) -> dict[str, Any]:
    """The settings of RLlib that both algorithms have."""
    return {**values, "grad_clip_by": "global_norm"}


def test_every_setting_of_ppo_is_passed_on() -> None:
    """Values that no default has, each in its own place."""
    config = agent_config(
        "ppo",
        segment_length=70,
        batch_size=60,
        epochs=7,
        learning_rate=3.5e-4,
        gamma=0.93,
        gae_lambda=0.71,
        clip_range=0.17,
        entropy_coefficient=0.013,
        value_coefficient=0.61,
        max_grad_norm=0.37,
        normalize_rewards=False,
        **COMMON,
    )
    assert rllib._common(config) | rllib._ppo(config) == {
        **common(gamma=0.93, lr=3.5e-4, grad_clip=0.37),
        "train_batch_size_per_learner": 420,
        "minibatch_size": 60,
        "num_epochs": 7,
        "lambda_": 0.71,
        "clip_param": 0.17,
        "entropy_coeff": 0.013,
        "vf_loss_coeff": 0.61,
        "vf_clip_param": float("inf"),
        "use_kl_loss": False,
    }
    falling = rllib._common(dataclasses.replace(config, anneal=True))
    assert falling["lr"] == [[0, 3.5e-4], [9000, 0.0]]


def test_every_setting_of_dqn_is_passed_on() -> None:
    config = agent_config(
        "dqn",
        segment_length=10,
        batch_size=48,
        update_interval=12,
        learning_starts=777,
        target_interval=31,
        double_q=False,
        n_step=4,
        replay_size=5432,
        epsilon_start=0.9,
        epsilon_end=0.03,
        epsilon_decay=0.3,
        learning_rate=4.5e-4,
        gamma=0.94,
        max_grad_norm=8.5,
        **COMMON,
    )
    assert rllib._common(config) | rllib._dqn(config) == {
        **common(gamma=0.94, lr=4.5e-4, grad_clip=8.5),
        "train_batch_size_per_learner": 48,
        "training_intensity": 4.0,
        "num_steps_sampled_before_learning_starts": 777,
        "target_network_update_freq": 372,
        "double_q": False,
        "dueling": False,
        "num_atoms": 1,
        "n_step": 4,
        "td_error_loss_fn": "huber",
        "epsilon": [(0, 0.9), (2700, 0.03)],
        "replay_buffer_config": {"type": "EpisodeReplayBuffer", "capacity": 5432},
    }


def test_both_libraries_have_the_same_settings_except_the_tuned_learning_rate() -> None:
    for env in ("CartPole-v1", "labs/NavigationGoal-v1"):
        of = runs(env)
        for algorithm in ("ppo", "dqn"):
            ours = dataclasses.asdict(of[f"labs-{algorithm}"])
            theirs = dataclasses.asdict(of[f"rllib-{algorithm}"])
            different = {name for name in ours if ours[name] != theirs[name]}
            if env == "CartPole-v1":  # where they are published
                assert different == {"library"}
            assert different <= {"library", "learning_rate"}
    rate = {"learning_rate": 0.5, "steps": {"CartPole-v1": 600}}
    forced = plan_runs(["CartPole-v1"], AGENTS, [3], **rate, evaluations=2, eval_episodes=10)
    assert {config.learning_rate for config in forced} == {0.5}
    # evaluations lie at whole segments: 256 steps of both algorithms here
    assert {config.eval_interval for config in forced} == {512}


def test_images_are_compared_between_ours_and_vectors_are_never_normalised() -> None:
    vectors = runs()
    images = runs("agent_environments:test/Quarters-v0")
    for name in ("labs-ppo", "labs-dqn"):
        assert vectors[name].normalize_observations is False
        check_run(images[name])  # refused if the option were touched
        with pytest.raises(InputError, match="`normalize_observations` False has no effect"):
            check_run(dataclasses.replace(images[name], normalize_observations=False))
    with pytest.raises(InputError, match="RLlib needs observations of a Box"):
        check_run(images["rllib-ppo"])


def test_seeds_are_those_that_the_command_names() -> None:
    script = load_script("compare_agents")
    for config, expected in (
        (script.Config(seed=7, seeds=(2,), agents=("labs-ppo",)), [7, 8, 7, 8]),
        (script.Config(agents=("labs-dqn",), envs=("CartPole-v1",)), [0, 1, 2, 3, 4]),
    ):
        trials = config.trials()
        assert [trial.seed for trial in trials] == expected
        assert all(trial.label.endswith(f"seed={trial.seed}") for trial in trials)
