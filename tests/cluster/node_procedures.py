"""A procedure that tells where it runs, importable by the workers of every node."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from procedures import WalkConfig, walk

from labs.runtime.reports import Checkpoint, Report


@dataclass(frozen=True)
class NodeConfig(WalkConfig):
    """A walk that reports its node and GPU."""

    together: int = 0
    """Wait in ``meet`` (at the beginning) and ``mark`` until so many trials have come."""
    mark: str | None = None
    """A directory in which the trials wait for one another at step ``mark_at``."""
    mark_at: int = 1

    def without_waiting(self) -> NodeConfig:
        return dataclasses.replace(self, pause=0.0, meet=None, mark=None)


def where(config: NodeConfig, resume: Checkpoint | None = None) -> Iterator[Report]:
    """``walk`` with the number of its raylet, its first GPU (-1 for none) and where it resumed."""
    begun = resume["step"] if resume else 0
    node = float(os.getppid())  # asked once: a worker outlives its raylet for a moment, orphaned
    if config.meet:
        _meet(Path(config.meet), config.seed, config.together)
    for report in walk(dataclasses.replace(config, meet=None), resume):
        if config.mark and report.step == config.mark_at:
            _meet(Path(config.mark), config.seed, config.together)
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        yield Report(
            report.step,
            {
                "walk/position": report.metrics["walk/position"],
                "where/node": node,
                "where/gpu": float(visible.split(",")[0]) if visible else -1.0,
                "where/resumed_at": float(begun),
            },
            report.checkpoint,
        )


def _meet(directory: Path, seed: int, count: int) -> None:
    (directory / str(seed)).touch()
    deadline = time.monotonic() + 120
    while len(list(directory.iterdir())) < count:
        if time.monotonic() > deadline:
            raise TimeoutError("the others did not come")
        time.sleep(0.05)
