"""What one trial leaves to the next in the same process: driven here, without Ray."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import torch
from procedures import WalkConfig

from labs.runtime.reports import Checkpoint, Objective, Report
from labs.runtime.storage import StoragePath
from labs.runtime.trial import GridSpec, Trial, TrialSpec

CIRCLES: list[weakref.ref] = []
"""One per trial: models and tensors often hang in circles."""


class Circle:
    def __init__(self) -> None:
        self.me = self


def circular(config: WalkConfig, resume: Checkpoint | None = None) -> Iterator[Report]:
    circle = Circle()
    CIRCLES.append(weakref.ref(circle))
    for step in range(1, 4):
        yield Report(step, {"walk/position": float(step)})


def test_a_trial_leaves_nothing_and_the_imports_are_not_looked_through(tmp_path: Path) -> None:
    specs = [
        TrialSpec(WalkConfig(seed=seed), StoragePath(tmp_path / str(seed))) for seed in range(2)
    ]
    grid = GridSpec(circular, specs, Objective(), 60.0, 0.5, torch.get_num_threads())
    frozen = gc.get_freeze_count()
    trial = Trial.__new__(Trial)
    trial.setup({"index": 0}, grid)
    try:
        assert gc.get_freeze_count() > frozen + 10_000
        result = trial.step()
        assert result["completed"] and [r["step"] for r in result["reports"]] == [1, 2, 3]
        assert trial.reset_config({"index": 1})
        assert CIRCLES[0]() is None
        assert trial.step()["completed"]
    finally:
        trial.cleanup()
    assert CIRCLES[1]() is None
    assert gc.get_freeze_count() == 0
