"""Small training procedures for the tests of the runner, importable by Ray's workers."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labs.runtime.reports import Checkpoint, Report


@dataclass(frozen=True)
class WalkConfig:
    """A seeded random walk: every step depends on all the random numbers before it."""

    seed: int = 0
    steps: int = 5
    pause: float = 0.0
    fail_at: int | None = None
    fail: str = "raise"
    """raise, nan, kill or hang: what happens at step ``fail_at``."""
    once: str | None = None
    """A file that is made at the first failure and prevents the next."""
    meet: str | None = None
    """A directory in which this trial waits until another one has come too."""
    note_length: int = 0
    """Characters of text in every report: what the driver needs room on its disk for."""


def walk(
    config: WalkConfig, resume: Checkpoint | None = None, *, offset: np.ndarray | None = None
) -> Iterator[Report]:
    generator = torch.Generator().manual_seed(config.seed)
    step, position = 0, torch.zeros((), dtype=torch.float64)
    if resume is not None:
        step, position = resume["step"], resume["position"]
        generator.set_state(resume["generator"])
    if config.meet:
        _wait_for_another(Path(config.meet), config.seed)
    while step < config.steps:
        step += 1
        position = position + torch.randn((), generator=generator, dtype=torch.float64)
        time.sleep(config.pause)
        value = float(position) + (0.0 if offset is None else float(offset.sum()))
        if step == config.fail_at and not (config.once and os.path.exists(config.once)):
            value = _fail(config)

        def checkpoint(step: int = step, position: torch.Tensor = position) -> dict[str, Any]:
            state = {"step": step, "position": position, "generator": generator.get_state()}
            return {"kind": "test.walk", **state}

        metrics = {"walk/position": value, "time/process": float(os.getpid())}
        texts = {"walk/note": "n" * config.note_length} if config.note_length else {}
        yield Report(step, metrics, checkpoint, texts=texts)


def _fail(config: WalkConfig) -> float:
    """Fail as the config says; a value that is none where the report is to fail."""
    if config.once:
        open(config.once, "w").close()
    if config.fail == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if config.fail == "hang":
        time.sleep(600)
    if config.fail == "raise":
        raise RuntimeError(f"planted at step {config.fail_at}")
    return float("nan")


def _wait_for_another(directory: Path, seed: int) -> None:
    (directory / str(seed)).touch()
    deadline = time.monotonic() + 120
    while len(list(directory.iterdir())) < 2:
        if time.monotonic() > deadline:
            raise TimeoutError("no other trial came")
        time.sleep(0.05)


@dataclass(frozen=True)
class TimedConfig:
    """A trial that takes ``duration`` seconds by the clock in the file ``clock``."""

    index: int = 0
    duration: float = 1.0
    clock: str = "clock"
    trials: int = 1
    """Number of trials with this clock, of which two run at once."""


def timed(config: TimedConfig, resume: Checkpoint | None = None) -> Iterator[Report]:
    """One report, with the clock at the trial's beginning and at its end.

    The clock is not that of the machine, which may be busy: it stands at the end of the trial that has
    ended last, and lets that trial end next whose end is the earliest. It waits until a trial has started
    in every place that is free, however long that takes.
    """
    with clock(config.clock) as ends:
        begun = max(ends["ended"].values(), default=0.0)
        ends["running"][str(config.index)] = end = begun + config.duration
    deadline = time.monotonic() + 120
    while True:
        with clock(config.clock) as ends:
            running, ended = ends["running"], ends["ended"]
            all_started = len(running) == min(2, config.trials - len(ended))
            if all_started and running[str(config.index)] == min(running.values()):
                ended[str(config.index)] = running.pop(str(config.index))
                break
        if time.monotonic() > deadline:
            raise TimeoutError("the other trials do not start")
        time.sleep(0.02)
    yield Report(1, {"clock/begun": begun, "clock/now": end})


@contextlib.contextmanager
def clock(path: str) -> Iterator[dict[str, dict[str, float]]]:
    """The ends of the running and of the ended trials, which only one process at a time may change."""
    with open(path, "a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        ends = json.loads(file.read() or '{"running": {}, "ended": {}}')
        yield ends
        file.truncate(0)
        file.write(json.dumps(ends))


@dataclass(frozen=True)
class ShortConfig:
    seed: int = 0


def short(config: ShortConfig, resume: Checkpoint | None = None) -> Iterator[Report]:
    """Much shorter than the start of a process."""
    yield Report(1, {"walk/position": 1.0, "time/process": float(os.getpid())})


@dataclass(frozen=True)
class RiseConfig:
    slope: float = 1.0
    family: str = "a"
    seed: int = 0
    steps: int = 8
    first: str = ""
    """What is odd at step 1: ``fail``, or ``late`` for a report without the metric."""


def rise(config: RiseConfig, resume: Checkpoint | None = None) -> Iterator[Report]:
    """A score that grows with the step, by the config's slope."""
    for step in range(1, config.steps + 1):
        if step == 1 and config.first == "fail":
            raise RuntimeError("planted at the first step")
        score = config.slope * step + 0.001 * config.seed
        if step == 1 and config.first == "late":
            yield Report(step, {"other/thing": 1.0})
        else:
            yield Report(step, {"val/score": score})
