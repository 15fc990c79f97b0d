"""A trained agent from Python acts as its evaluation says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import labs
from labs.rl.agents.config import AgentConfig
from labs.rl.envs.make import make_single
from labs.rl.evaluation import evaluate
from labs.rl.training import train_agent
from labs.runtime.checkpoints import save_checkpoint
from labs.runtime.errors import InputError
from labs.runtime.options import RuntimeOptions

SMALL: dict[str, Any] = {
    "total_steps": 256,
    "envs_per_worker": 4,
    "segment_length": 32,
    "batch_size": 64,
    "hidden_sizes": (16,),
    "eval_episodes": 5,
}


class Started(gymnasium.ActionWrapper):
    """Actions are called 5 and 6."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.action_space = gymnasium.spaces.Discrete(2, start=5)

    def action(self, action: Any) -> Any:
        assert isinstance(action, np.int64) and action in (5, 6)
        return action - 5


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "starting", sys.modules[__name__])


def trained(path: Path, **options: Any) -> Path:
    report = list(train_agent(AgentConfig(**{**SMALL, **options})))[-1]
    assert report.checkpoint is not None
    save_checkpoint(path / "best.pt", report.checkpoint())
    return path / "best.pt"


@pytest.mark.parametrize(
    "options",
    [
        {"env": "CartPole-v1", "frame_stack": 3, "wrapper": ("starting:Started",)},
        {"env": "agent_environments:test/Quarters-v0", "frame_stack": 2},
        {"env": "FrozenLake-v1", "env_kwargs": ("map_name=8x8", "max_episode_steps=30")},
        {"env": "Pendulum-v1", "env_kwargs": ("g=3.5", "max_episode_steps=40")},
        {"env": "CartPole-v1", "algorithm": "dqn", "env_kwargs": ("max_episode_steps=60",)},
    ],
)
def test_episodes_go_as_in_the_evaluation(tmp_path: Path, options: dict[str, Any]) -> None:
    """Played one by one in gymnasium's own loop, and all at once as a batch."""
    path = trained(tmp_path, **options)
    policy = labs.load_policy(path)
    env = make_single(policy.env)
    saved = policy._policy
    found = evaluate(saved, policy.env, 4, seed=3, frame_stack=options.get("frame_stack", 1))
    starts, rows = [], []
    for episode, seed in zip(found.episodes, found.seeds, strict=True):
        observation, _ = env.reset(seed=seed)
        starts.append(observation)
        policy.reset()
        total, length, ended = 0.0, 0, False
        while not ended:
            action = policy.act(observation)
            if length == 0:
                rows.append(action)
            assert action in env.action_space
            observation, reward, terminated, truncated, _ = env.step(action)
            total, length, ended = total + float(reward), length + 1, terminated or truncated
        assert length == episode.length
        assert total == pytest.approx(episode.total_reward, rel=1e-5)
    policy.reset()
    batch = policy.act(np.stack(starts))
    np.testing.assert_allclose(batch, np.stack(rows), rtol=1e-5)
    assert batch.dtype == env.action_space.dtype


def test_stacked_frames_begin_again_where_the_mask_says(tmp_path: Path) -> None:
    policy = labs.load_policy(trained(tmp_path, env="Pendulum-v1", frame_stack=2))
    other = labs.load_policy(tmp_path / "best.pt")
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(2, 3, 3))
    policy.act(first)
    policy.reset(np.array([False, True, False]))
    mixed = policy.act(second)
    other.act(first)
    going_on = other.act(second)
    other.reset()
    anew = other.act(second)
    assert (going_on != anew).all()
    np.testing.assert_array_equal(mixed, np.stack([going_on[0], anew[1], going_on[2]]))


def test_the_best_trial_of_a_run_or_the_one_that_is_named(tmp_path: Path) -> None:
    configs = [
        AgentConfig(**SMALL, env="CartPole-v1", seed=seed, env_kwargs=("max_episode_steps=99",))
        for seed in (1, 2)
    ]
    options = RuntimeOptions(run_root=str(tmp_path), local_mode=True)
    labs.sweep(train_agent, configs, metric="eval/return_mean", options=options)
    (path,) = (config.parent for config in tmp_path.glob("*/*/config.json"))
    run = labs.load_run(path)
    best = run.best()
    assert best is not None
    found = [labs.load_policy(path, trial=k)._policy._parameters for k in (0, 1)]
    np.testing.assert_array_equal(
        labs.load_policy(path)._policy._parameters, found[int(best["trial"])]
    )
    assert (found[0] != found[1]).any()
    assert labs.load_policy(path).env.env_kwargs == ("max_episode_steps=99",)
    with pytest.raises(InputError, match="`trial` 2 is not in"):
        labs.load_policy(path, trial=2)
    with pytest.raises(InputError, match="`trial` selects a trial of a run"):
        labs.load_policy(path / "checkpoints" / "x.pt", trial=1)
    with pytest.raises(InputError, match=r"is not a run directory: it has no config\.json"):
        labs.load_policy(tmp_path)


def test_sampling_is_reproducible_and_only_where_there_are_probabilities(tmp_path: Path) -> None:
    path = trained(tmp_path, env="CartPole-v1")
    observation = np.tile(np.random.default_rng(1).normal(size=4), (200, 1))
    first, second, other = (
        labs.load_policy(path, stochastic=True, seed=seed).act(observation) for seed in (0, 0, 1)
    )
    assert len(set(first)) == 2 and len(set(labs.load_policy(path).act(observation))) == 1
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()
    with pytest.raises(InputError, match="`stochastic` has no effect: dqn learns values"):
        labs.load_policy(trained(tmp_path, env="CartPole-v1", algorithm="dqn"), stochastic=True)


def test_an_unusable_observation_is_refused(tmp_path: Path) -> None:
    policy = labs.load_policy(trained(tmp_path, env="CartPole-v1"))
    for shape in ((), (3,), (1, 1, 4), (4, 3)):
        with pytest.raises(InputError, match=r"`observation` has shape .*\(4,\), .* \(n, 4\)"):
            policy.act(np.zeros(shape))
    with pytest.raises(InputError, match="not a finite number"):
        policy.act([0, np.nan, 0, 0])
    assert policy.act([0.1, 0.2, 0.3, 0.4]) in (0, 1)  # a list will do


def test_the_old_place_of_the_config_still_works() -> None:
    from labs.rl.config import AgentConfig as Old

    assert Old is AgentConfig
