"""Successive halving over configs: which are stopped, and that seeds share the decision."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from labs.runtime.loop.asha import Entrant, Halving


def entrants(configs: int, seeds: int, last_step: int = 16, groups: int = 1) -> list[Entrant]:
    """Seeds of a config follow each other; configs go round the groups."""
    return [
        Entrant(config=c, group=c % groups, last_step=last_step)
        for c in range(configs)
        for _ in range(seeds)
    ]


def run_in_turns(halving: Halving, values: np.ndarray, last_step: int = 16) -> dict[int, int]:
    """All trials side by side, a step each in turn; how far each came."""
    reached = dict.fromkeys(range(len(values)), 0)
    for step in range(1, last_step + 1):
        for trial, value in enumerate(values):
            if not halving.is_stopped(trial):
                halving.report(trial, step, float(value))
                reached[trial] = step
    return reached


@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_better_configs_survive_and_the_best_always_does(mode: str) -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        qualities = rng.permutation(8).astype(float)
        values = np.repeat(qualities, 3)
        better = qualities if mode == "max" else -qualities
        halving = Halving(entrants(8, 3), mode)
        reached = run_in_turns(halving, values)
        ended = {c for c in range(8) if reached[3 * c] == 16}
        assert int(better.argmax()) in ended
        worst_half = set(np.argsort(better)[:4].tolist())
        assert worst_half <= set(range(8)) - ended


def test_the_worse_of_two_is_stopped_whichever_comes_first() -> None:
    halving = Halving(entrants(2, 1), "max")
    assert run_in_turns(halving, np.array([0.1, 0.9])) == {0: 2, 1: 16}
    halving = Halving(entrants(2, 1), "min")
    assert run_in_turns(halving, np.array([0.1, 0.9])) == {0: 16, 1: 2}


def test_a_config_beyond_a_rung_is_not_judged_at_it() -> None:
    halving = Halving([Entrant("a", 0, 16), Entrant("b", 0, 16), Entrant("a", 0, 16)], "max")
    halving.report(0, 2, 0.5)
    halving.report(0, 4, 0.5)
    halving.report(1, 2, 0.9)
    assert not halving.is_stopped(0)
    halving.report(1, 4, 0.9)
    assert halving.is_stopped(0) and halving.is_stopped(2) and not halving.is_stopped(1)


def test_seeds_of_a_config_stop_together_in_any_order() -> None:
    rng = np.random.default_rng(5)
    for _ in range(300):
        halving = Halving(entrants(6, 4), "max")
        values = rng.normal(size=24)
        steps = dict.fromkeys(range(24), 0)
        running: list[int] = []
        waiting = list(rng.permutation(24))
        ends: dict[int, str] = {}
        while running or waiting:
            while waiting and len(running) < 5:  # five slots
                running.append(int(waiting.pop()))
            trial = int(rng.choice(running))
            if steps[trial] == 0 and halving.is_stopped(trial):
                ends[trial] = "stopped"
            else:
                steps[trial] += 1
                halving.report(trial, steps[trial], values[trial] + 0.1 * rng.normal())
                if halving.is_stopped(trial):
                    ends[trial] = "stopped"
                elif steps[trial] == 16:
                    ends[trial] = "done"
            if trial in ends:
                running.remove(trial)
        for config in range(6):
            assert len({ends[4 * config + s] for s in range(4)}) == 1
        assert "done" in ends.values()


def test_groups_do_not_compete() -> None:
    values = np.array([0.9, 0.1, 0.8, 0.2])  # group 0 has the good ones
    halving = Halving(entrants(4, 1, groups=2), "max")
    reached = run_in_turns(halving, values)
    assert reached[0] == 16 and reached[3] == 16
    assert reached[2] == 2 and reached[1] == 2


def test_a_late_or_missing_or_infinite_metric_decides_nothing() -> None:
    halving = Halving(entrants(2, 1), "max")
    for step, (first, second) in enumerate(
        itertools.zip_longest([0.9] * 8, [None, None, math.nan, math.inf]), start=1
    ):
        halving.report(0, step, first)
        halving.report(1, step, second)
    assert not halving.is_stopped(0) and not halving.is_stopped(1)
    halving.report(1, 9, 0.5)
    assert halving.is_stopped(1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
@pytest.mark.parametrize("mode", ["max", "min"])
def test_the_others_are_judged_as_if_it_had_not_reported(mode: str, value: float | None) -> None:
    """A NaN would make every median NaN, and an infinite value every other one too small."""
    rng = np.random.default_rng(4)
    for _ in range(20):
        alone, beside = Halving(entrants(6, 1), mode), Halving(entrants(6, 1), mode)
        beside.report(0, 2, value)
        for trial in rng.permutation(np.arange(1, 6)).tolist():
            score = float(rng.normal())
            alone.report(trial, 2, score)
            beside.report(trial, 2, score)
        stopped = [alone.is_stopped(trial) for trial in range(6)]
        assert [beside.is_stopped(trial) for trial in range(6)] == stopped
        assert any(stopped) and not stopped[0]


def test_a_record_that_is_replayed_gives_the_same_decisions() -> None:
    values = np.array([0.5, 0.7, 0.9])
    first = Halving(entrants(3, 1), "max")
    for trial in (2, 1):  # in the first session these two got to rung 2
        first.report(trial, 2, values[trial])
    assert first.is_stopped(1) and not first.is_stopped(2)
    second = Halving(entrants(3, 1), "max")
    for trial, status in ((1, "stopped"), (2, None)):
        record = [{"step": 1, "metrics": {}}, {"step": 2, "metrics": {"a/b": values[trial]}}]
        second.replay(trial, None, record, "a/b")
        assert not second.is_stopped(trial)  # replaying decides nothing
        second.replay(trial, status, record, "a/b")
    second.report(0, 2, values[0])
    assert second.is_stopped(0) and second.is_stopped(1) and not second.is_stopped(2)


def test_last_steps_of_their_own_put_rungs_at_the_same_fraction() -> None:
    trials = [Entrant("long", 0, 80), Entrant("short", 0, 8)]
    halving = Halving(trials, "min")
    halving.report(0, 9, 5.0)
    halving.report(1, 1, 6.0)  # an eighth of 8; the long one has not come to an eighth of 80
    assert not halving.is_stopped(1)
    halving.report(0, 10, 5.0)
    assert halving.is_stopped(1) and not halving.is_stopped(0)
