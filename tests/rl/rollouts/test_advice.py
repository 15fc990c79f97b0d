"""When workers are worth it."""

from __future__ import annotations

import dataclasses

import pytest

from labs.rl.agents.config import AgentConfig
from labs.rl.rollouts import advice
from labs.rl.rollouts.advice import step_microseconds, workers_note


def test_the_cost_of_a_step_is_that_of_one_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that only the environment moves: 3 ms for all four copies."""
    now = [0.0]
    monkeypatch.setattr(advice.time, "perf_counter", lambda: now[0])
    made = advice.make_env

    def make(*rest: object, **options: object) -> object:
        env = made(*rest, **options)
        step = env.step

        def slow_step(actions: object) -> object:
            now[0] += 0.003
            return step(actions)

        env.step = slow_step
        return env

    monkeypatch.setattr(advice, "make_env", make)
    for env in ("CartPole-v1", "Pendulum-v1"):
        config = AgentConfig(env=env, envs_per_worker=4, num_workers=2)
        assert step_microseconds(config) == pytest.approx(750)


def test_workers_that_do_not_pay_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    config = AgentConfig(env="CartPole-v1", num_workers=2)
    monkeypatch.setattr(advice, "step_microseconds", lambda _: 7.2)
    note = workers_note(config)
    assert note is not None and note.startswith("a step of CartPole-v1 takes 7 us")
    assert "`num_workers` 0 is probably faster" in note
    assert workers_note(dataclasses.replace(config, num_workers=0)) is None
    monkeypatch.setattr(advice, "step_microseconds", lambda _: advice.WORKERS_PAY_FROM + 1.0)
    assert workers_note(config) is None
