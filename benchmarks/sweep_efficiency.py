"""Efficiency of a grid of equal trials on two slots, and the overhead of a trial.

Runs ``--trials`` trials that each compute for ``--seconds`` (a fixed number of matrix products,
calibrated first) on two slots with ``run_grid``, and then the same grid with Ray Tune and its defaults
(a function trainable, new actors, its own loggers). Efficiency is the sum of the trials' computing times
divided by two and by the wall time of the sweep, without the start of Ray.

    python benchmarks/sweep_efficiency.py
    python benchmarks/sweep_efficiency.py --seconds 0 --trials 40     # overhead only
    python benchmarks/sweep_efficiency.py --seconds 0 --trials 4000 --no-tune
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import torch
import tyro
from ray import tune

from labs.runtime.directory.runs import open_run
from labs.runtime.machine.session import connect
from labs.runtime.options import RuntimeOptions
from labs.runtime.reports import Checkpoint, Report
from labs.runtime.sweep import run_grid

SLOTS = 2
EPOCHS = 5


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    trials: int = 8
    """Trials in the grid."""
    seconds: float = 10.0
    """Computing time of a trial."""
    tune: bool = True
    """Run the grid through Tune's defaults as well."""


@dataclass(frozen=True)
class Work:
    """One trial: ``products`` matrix products per epoch."""

    seed: int
    products: int


def compute(products: int) -> float:
    """Seconds for this many products on one thread."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    matrix = torch.eye(256)
    for _ in range(products):
        matrix = matrix @ matrix
    return time.perf_counter() - started


def train(config: Work, resume: Checkpoint | None = None) -> Iterator[Report]:
    """Five epochs of products; reports the computing time of each."""
    for epoch in range(1, EPOCHS + 1):
        yield Report(epoch, {"time/bare": compute(config.products)})


def ours(works: list[Work]) -> tuple[float, float]:
    """Wall time of the sweep and summed computing time, with ``run_grid``."""
    with tempfile.TemporaryDirectory() as root:
        options = RuntimeOptions(run_root=root)
        started = time.perf_counter()
        with open_run("efficiency", options, options) as run:
            result = run_grid(train, works, run=run)
        wall = time.perf_counter() - started
    return wall, float(result.history["time/bare"].sum())


def plain_tune(works: list[Work]) -> tuple[float, float]:
    """The same with Tune as its documentation shows it."""

    def trainable(config: dict[str, Any]) -> None:
        bare = 0.0
        for epoch in range(1, EPOCHS + 1):
            bare += compute(config["products"])
            tune.report({"epoch": epoch, "bare": bare})

    # labs.runtime sets it; Tune's default is to use its loggers.
    os.environ.pop("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS")
    with tempfile.TemporaryDirectory() as root:
        started = time.perf_counter()
        results = tune.Tuner(
            trainable,
            param_space={
                "seed": tune.grid_search([w.seed for w in works]),
                "products": works[0].products,
            },
            run_config=tune.RunConfig(storage_path=str(Path(root)), verbose=0),
        ).fit()
        wall = time.perf_counter() - started
        bare = results.get_dataframe()["bare"].sum()
    return wall, float(bare)


def main(config: Config) -> None:
    """Print the times of the grid with ``run_grid`` and with Tune's defaults."""
    compute(20)
    rate = 200 / compute(200)
    products = int(rate * config.seconds / EPOCHS)
    works = [Work(seed, products) for seed in range(config.trials)]
    print(
        f"{config.trials} trials of {config.seconds:g} s on {SLOTS} slots,"
        f" torch {torch.__version__}, ray {ray.__version__}"
    )
    started = time.perf_counter()
    with connect(RuntimeOptions(num_cpus=SLOTS)):
        print(f"Ray's start: {time.perf_counter() - started:.1f} s")
        ways = {"run_grid": ours} | ({"Tune's defaults": plain_tune} if config.tune else {})
        for name, sweep in ways.items():
            wall, bare = sweep(works)
            overhead = (wall * SLOTS - bare) / config.trials
            print(
                f"{name:16s} wall {wall:6.1f} s, bare {bare:6.1f} s, efficiency"
                f" {bare / SLOTS / wall:.3f}, {overhead:.2f} slot-seconds of overhead per trial,"
                f" {1000 * wall / config.trials:.1f} ms each"
            )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
