"""Rollout workers: the same numbers wherever they run, and what happens when they die."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from labs.rl import training
from labs.rl.agents.config import AgentConfig
from labs.rl.agents.policies import PolicySpec
from labs.rl.agents.segments import Segment
from labs.rl.rollouts.collector import Collector, CollectorSpec
from labs.rl.rollouts.workers import InProcess, Workers
from labs.rl.training import train_agent
from labs.runtime.checkpoints import to_bytes
from labs.runtime.errors import InputError
from labs.runtime.reports import Report

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("private_ray")]

SPEC = CollectorSpec(
    "CartPole-v1", 3, 1, 20, PolicySpec((4,), 2, (8,), "tanh", "categorical"), seed=0
)
PARAMETERS = np.random.default_rng(0).normal(size=4 * 8 + 8 + 8 * 2 + 2).astype(np.float32)


def config(algorithm: str, **options: Any) -> AgentConfig:
    sizes: dict[str, Any] = {
        "ppo": {"segment_length": 32, "batch_size": 64},
        "dqn": {"segment_length": 8, "batch_size": 32, "learning_starts": 100},
    }[algorithm]
    return AgentConfig(
        **{
            "algorithm": algorithm,
            "env": "CartPole-v1",
            "envs_per_worker": 4,
            "hidden_sizes": (32,),
            "eval_episodes": 10,
            "report_interval": 256,
            "total_steps": 1024,
            "num_workers": 1,
            **sizes,
            **options,
        }
    )


def untimed(reports: list[Report]) -> list[tuple[int, dict[str, float]]]:
    return [
        (r.step, {k: v for k, v in r.metrics.items() if not k.startswith("time/")}) for r in reports
    ]


def equal(one: Segment, other: Segment) -> bool:
    return one[6:8] == other[6:8] and all(map(np.array_equal, one[:6], other[:6]))


@pytest.fixture
def pool() -> Iterator[Workers]:
    workers = Workers(SPEC, 2)
    yield workers
    workers.close()


def test_ppo_gives_the_same_numbers_with_one_worker_as_with_none_and_resumes() -> None:
    alone = untimed(list(train_agent(config("ppo", num_workers=0))))
    reports = []
    for report in train_agent(config("ppo")):
        reports.append(report)
        if len(reports) == 2:
            middle = to_bytes(report.checkpoint())
    assert untimed(reports) == alone
    resume = torch.load(io.BytesIO(middle), weights_only=True)
    assert untimed(list(train_agent(config("ppo"), resume=resume))) == alone[2:]


def test_every_worker_has_its_own_seed_and_all_use_the_version_asked_for(pool: Workers) -> None:
    own = InProcess([Collector(SPEC, index) for index in range(2)])
    for version in (0, 1):
        found = pool.gather(PARAMETERS, version)
        assert equal(found, own.gather(PARAMETERS, version))
        assert found.version == version and found.rewards.shape == (20, 6)
        assert not np.array_equal(found.observations[:, :3], found.observations[:, 3:])


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_the_others_continue(pool: Workers) -> None:
    before = pool.process_ids()
    pool.gather(PARAMETERS, 0)
    os.kill(before[0], signal.SIGKILL)
    segment = pool.gather(PARAMETERS, 1)
    assert segment.version == 1 and segment.num_steps == 120 and pool.replaced == 1
    after = pool.process_ids()
    assert after[0] != before[0] and after[1] == before[1]
    # The survivor is where it would have been; the new one begins anew, with randomness of its own.
    survivor = Collector(SPEC, 1)
    survivor.collect(PARAMETERS, 0)
    expected = survivor.collect(PARAMETERS, 1)
    np.testing.assert_array_equal(segment.observations[:, 3:], expected.observations)
    first = Collector(SPEC, 0).collect(PARAMETERS, 0)
    assert not np.array_equal(segment.observations[0, :3], first.observations[0])


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_training_continues_after_a_worker_was_killed(
    algorithm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pools = []

    def make(spec: CollectorSpec, num_workers: int) -> Workers:
        pools.append(Workers(spec, num_workers))
        return pools[0]

    monkeypatch.setattr(training, "make_rollouts", make)
    reports = []
    for report in train_agent(config(algorithm, total_steps=2048)):
        reports.append(report)
        if len(reports) == 2:
            os.kill(pools[0].process_ids()[0], signal.SIGKILL)
    assert reports[-1].step >= 2048
    assert reports[1].metrics["rollout/workers_replaced"] == 0
    assert reports[-1].metrics["rollout/workers_replaced"] == 1


def test_dqn_keeps_its_ratio_and_reports_the_age_of_the_parameters() -> None:
    settings = config("dqn", num_workers=2, update_interval=4, learning_starts=256)
    *_, last = train_agent(settings)
    learner = last.checkpoint()["trainer"]["learner"]
    assert learner["version"] == (last.step - 256) // 4
    # Each segment of 32 steps is followed by 8 updates, and was asked for at least once before.
    assert last.metrics["train/parameter_age"] >= 8


@pytest.mark.slow
def test_a_worker_that_always_dies_ends_the_run() -> None:
    with pytest.raises(RuntimeError, match="worker 0 died 3 times in a row") as death:
        list(train_agent(config("ppo", env="agent_environments:test/Die-v0", segment_length=64)))
    assert "creation task" not in str(death.value)  # it died at work


def test_an_error_in_a_worker_arrives_with_its_traceback() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)agent_environments.py.*the motor is on fire"):
        list(train_agent(config("ppo", env="agent_environments:test/Raise-v0")))


def test_nan_in_a_worker_gives_the_same_sentence_as_without() -> None:
    settings = config("ppo", env="agent_environments:test/Nan-v0", segment_length=64)
    with pytest.raises(InputError) as remote:
        list(train_agent(settings))
    with pytest.raises(InputError) as local:
        list(train_agent(config("ppo", env=settings.env, segment_length=64, num_workers=0)))
    assert str(remote.value) == str(local.value)
