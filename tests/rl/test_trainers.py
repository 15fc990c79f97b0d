"""How collecting and learning alternate: what is asked of the rollouts, and how much is learned from it.

Without Ray: part of the tests of the maths.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from labs.rl.agents.config import AgentConfig, agent_config
from labs.rl.agents.networks.base import Spaces
from labs.rl.agents.policies import load_policy
from labs.rl.agents.segments import Segment
from labs.rl.evaluation import episode_metrics, evaluate
from labs.rl.trainers import make_dqn, make_ppo
from labs.rl.training import train_agent
from labs.runtime.checkpoints import save_checkpoint

SPACES = Spaces((4,), 2, True)
CPU = torch.device("cpu")
SMALL: dict[str, Any] = {"env": "CartPole-v1", "envs_per_worker": 4, "hidden_sizes": (8,)}


class Recorded:
    """Rollouts of random numbers that write down what they were asked for."""

    replaced = 0

    def __init__(self, length: int) -> None:
        self._shape, self._rng = (length, 4), np.random.default_rng(0)
        self.asked: list[tuple[np.ndarray, int, float]] = []

    def gather(self, parameters: np.ndarray, version: int) -> Segment:
        return self.next(parameters, version, 0.0)

    def next(self, parameters: np.ndarray, version: int, epsilon: float) -> Segment:
        self.asked.append((parameters, version, epsilon))
        observations, following = self._rng.normal(size=(2, *self._shape, 4)).astype(np.float32)
        terminated = self._rng.random(self._shape) < 0.1
        rewards = self._rng.normal(size=self._shape).astype(np.float32)
        actions = self._rng.integers(2, size=self._shape)
        ends = (terminated, np.zeros_like(terminated))
        return Segment(observations, actions, rewards, *ends, following, [], version, 0.0, 0.0)


def test_ppo_collects_with_the_newest_parameters_and_learns_from_each_segment_once() -> None:
    config = agent_config("ppo", segment_length=16, batch_size=32, epochs=3, **SMALL)
    trainer, rollouts = make_ppo(config, SPACES, 0, CPU), Recorded(16)
    for k in range(3):
        newest = trainer.learner.actor_parameters()
        metrics = trainer.learn(trainer.collect(rollouts, k / 3), 64 * k, k / 3)
        assert metrics["train/learning_rate"] == pytest.approx(config.learning_rate * (1 - k / 3))
        np.testing.assert_array_equal(rollouts.asked[k][0], newest)
        assert trainer.learner._optimizer.steps == (k + 1) * 3 * 2
        assert np.abs(trainer.learner.actor_parameters() - newest).max() > 1e-4
    assert [version for _, version, _ in rollouts.asked] == [0, 1, 2]


def test_dqn_explores_on_its_schedule_and_takes_the_steps_that_it_owes() -> None:
    config = agent_config(
        "dqn",
        segment_length=8,
        batch_size=40,
        learning_starts=64,
        update_interval=10,
        epsilon_start=0.9,
        epsilon_end=0.1,
        epsilon_decay=0.5,
        total_steps=320,
        **SMALL,
    )
    trainer, rollouts = make_dqn(config, SPACES, 0, CPU), Recorded(8)
    versions, rates = [], []
    for k in range(10):
        newest = trainer.learner.actor_parameters()
        segment = trainer.collect(rollouts, k / 10)
        metrics = trainer.learn(segment, 32 * k, k / 10)
        np.testing.assert_array_equal(rollouts.asked[k][0], newest)
        assert rollouts.asked[k][1] == segment.version
        assert metrics["train/epsilon"] == rollouts.asked[k][2]
        assert trainer.learner.replay.size == 32 * (k + 1)
        versions.append(trainer.learner.version)
        rates.append(metrics.get("train/learning_rate", 0.0) / config.learning_rate)
    # 32 steps each from the third segment on: 3, 6, 9, 12, 16, ... of one per 10
    assert versions == [0, 0, 3, 6, 9, 12, 16, 19, 22, 25]
    assert trainer.learner._optimizer.steps == 25
    epsilons = [epsilon for _, _, epsilon in rollouts.asked]
    np.testing.assert_allclose(epsilons, [0.9, 0.74, 0.58, 0.42, 0.26, *[0.1] * 5])
    np.testing.assert_allclose(rates, [0, 0, *(1 - np.arange(2, 10) / 10)])


def test_dqn_waits_until_there_is_a_batch() -> None:
    options = {"segment_length": 8, "batch_size": 70, "learning_starts": 0, "update_interval": 8}
    trainer = make_dqn(agent_config("dqn", **options, **SMALL), SPACES, 0, CPU)
    rollouts, versions = Recorded(8), []
    for k in range(4):
        trainer.learn(trainer.collect(rollouts, 0.0), 32 * k, 0.0)
        versions.append(trainer.learner.version)
    assert versions == [0, 0, 4, 8]


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_a_trainer_continues_exactly_from_its_state(algorithm: str) -> None:
    """With another seed and no past of its own; the steps that are owed belong to the state."""
    options: dict[str, Any] = {"segment_length": 8, "batch_size": 32}
    if algorithm == "dqn":
        options |= {"learning_starts": 0, "update_interval": 10, "target_interval": 4}
    config = agent_config(algorithm, **options, **SMALL)
    make: Any = make_ppo if algorithm == "ppo" else make_dqn
    first, second = make(config, SPACES, 0, CPU), make(config, SPACES, 1, CPU)
    rollouts = Recorded(8)
    for k in range(3):
        first.learn(first.collect(rollouts, 0.1), 32 * k, 0.1)
    second.load(first.state())
    for k in range(3, 6):
        segment = first.collect(rollouts, 0.2)
        found = [trainer.learn(segment, 32 * k, 0.2) for trainer in (first, second)]
        assert found[0] == found[1]
        assert first.learner.version == second.learner.version
    np.testing.assert_array_equal(
        first.learner.actor_parameters(), second.learner.actor_parameters()
    )


def test_dqn_s_network_and_draws_depend_on_the_seed_alone() -> None:
    def learned(seed: int) -> list[np.ndarray]:
        options = {"segment_length": 8, "learning_starts": 0, "batch_size": 4, "anneal": False}
        trainer = make_dqn(agent_config("dqn", **options, **SMALL), SPACES, seed, CPU)
        first = trainer.learner.actor_parameters()
        trainer.learn(trainer.collect(Recorded(8), 0.0), 0, 0.0)
        drawn = trainer.learner.replay.sample(2, 30)
        return [first, drawn, trainer.learner.actor_parameters()]

    one, again, other = learned(0), learned(0), learned(1)
    for first, second, third in zip(one, again, other, strict=True):
        np.testing.assert_array_equal(first, second)
        assert (first != third).mean() > 0.5


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_schedules_follow_the_part_of_the_run_that_is_done(algorithm: str, tmp_path: Any) -> None:
    """And evaluations come when they are due, of the parameters that the checkpoint has."""
    options: dict[str, Any] = {"segment_length": 32, "batch_size": 64}
    if algorithm == "dqn":
        options = {"segment_length": 32, "batch_size": 32, "learning_starts": 256, "n_step": 1}
    config = AgentConfig(
        algorithm=algorithm,
        total_steps=1000,
        report_interval=100,
        eval_interval=512,
        eval_episodes=6,
        seed=3,
        **options,
        **SMALL,
    )
    reports, ends = [], []
    for report in train_agent(config):
        reports.append(report)
        if "eval/return_mean" in report.metrics:
            save_checkpoint(tmp_path / "now.pt", report.checkpoint())
            policy = load_policy(tmp_path / "now.pt").policy
            seed = np.random.SeedSequence(3).generate_state(3).tolist()[2]
            found = evaluate(policy, "CartPole-v1", 6, seed).episodes
            assert report.metrics["eval/return_mean"] == episode_metrics(found)["return_mean"]
            ends.append(report.step)
    assert [report.step for report in reports] == list(range(128, 1025, 128))
    assert ends == [512, 1024]
    for report in reports:
        progress = (report.step - 128) / 1000
        rate = config.learning_rate * (1 - progress)
        if algorithm == "dqn":
            assert report.metrics["train/epsilon"] == pytest.approx(config.epsilon(progress))
            if report.step <= 256:  # the segment that begins at step 256 is the first to learn from
                assert "train/learning_rate" not in report.metrics
                continue
        assert report.metrics["train/learning_rate"] == pytest.approx(rate)


def test_a_run_that_ends_before_learning_starts_is_named() -> None:
    for steps, note in [(704, True), (705, False)]:
        config = agent_config("dqn", total_steps=steps, learning_starts=700, batch_size=32, **SMALL)
        trainer, rollouts, step = make_dqn(config, SPACES, 0, CPU), Recorded(8), 0
        while step < steps:
            segment = trainer.collect(rollouts, step / steps)
            trainer.learn(segment, step, step / steps)
            step += segment.num_steps
        assert (trainer.learner.version == 0) == note == (config.note() is not None)
    assert agent_config("ppo", total_steps=1, **SMALL).note() is None
