"""In Ray's local mode, and without Ray."""

from __future__ import annotations

import pytest

from labs.rl.collector import CollectorSpec
from labs.rl.policies import PolicySpec
from labs.rl.rollouts import InProcess, make_rollouts

SPEC = CollectorSpec("CartPole-v1", 2, 1, 5, PolicySpec(4, 2, (), "tanh", "categorical"), seed=0)


def test_local_mode_runs_every_worker_in_the_driver(local_ray: None) -> None:
    rollouts = make_rollouts(SPEC, 3)
    assert isinstance(rollouts, InProcess) and len(rollouts.get_state()) == 3


def test_workers_without_ray_are_refused(without_ray: None) -> None:
    with pytest.raises(RuntimeError, match="workers need Ray"):
        make_rollouts(SPEC, 1)
    assert isinstance(make_rollouts(SPEC, 0), InProcess)
