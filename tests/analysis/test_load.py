"""A run read back from its directory, at its end and before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from labs.analysis.load import load_run
from labs.experiment import sweep
from labs.runtime.errors import InputError
from labs.runtime.grid import grid
from labs.runtime.options import RuntimeOptions
from labs.runtime.reports import Checkpoint, Report
from labs.runtime.results import GridResult

pytestmark = pytest.mark.usefixtures("without_ray")


@dataclass(frozen=True)
class Trial:
    height: float = 1.0
    shape: tuple[int, ...] = (3, 2)
    seed: int = 0


def hill(config: Trial, resume: Checkpoint | None = None) -> Iterator[Report]:
    """Highest in the middle: the best report is not the last one."""
    rng = np.random.default_rng([config.seed, int(10 * config.height)])
    for step, up in enumerate((0.2, 1.0, 0.4), start=1):
        value = config.height * up + 0.01 * rng.random()
        yield Report(step, {"val/score": value}, lambda step=step: {"kind": "hill", "step": step})


def run_hills(root: Path) -> tuple[GridResult, Path]:
    options = RuntimeOptions(run_root=str(root), local_mode=True, checkpoint_interval=0)
    configs = grid(Trial, height=[0.7, 2.5, 1.1], seed=range(2))
    result = sweep(hill, configs, metric="val/score", options=options)
    (config,) = root.glob("*/*/config.json")
    return result, config.parent


@pytest.mark.slow
def test_a_run_is_read_back_as_it_was(tmp_path: Path) -> None:
    result, path = run_hills(tmp_path)
    run = load_run(path)
    pd.testing.assert_frame_equal(
        run.table.drop(columns="shape"), result.table.drop(columns="shape")
    )
    pd.testing.assert_frame_equal(run.history, result.history)
    assert run.objective == result.objective
    best, expected = run.best(), result.best()
    assert best is not None and expected is not None
    assert best["height"] == 2.5 and best["name"] == expected["name"]
    assert run.load_checkpoint() == {"kind": "hill", "step": 2}
    assert run.load_checkpoint(0)["step"] == 2
    with pytest.raises(InputError, match="`trial` 6 is not in"):
        run.load_checkpoint(6)


@pytest.mark.slow
def test_a_running_run_is_read_and_not_disturbed(tmp_path: Path) -> None:
    _, path = run_hills(tmp_path)
    trial = path / "tensorboard" / load_run(path).table["name"].iloc[3]
    (trial / "state.json").unlink()
    history = trial / "reports.jsonl"
    lines = history.read_text().splitlines()
    history.write_text(f"{lines[0]}\n{lines[1][:9]}")  # in the middle of a line
    before = {file: file.stat().st_mtime_ns for file in path.rglob("*")}
    run = load_run(path)
    assert list(run.table["status"]) == ["done"] * 3 + ["interrupted"] + ["done"] * 2
    assert run.table["step"].iloc[3] == 1
    assert len(run.history) == 5 * 3 + 1
    assert {file: file.stat().st_mtime_ns for file in path.rglob("*")} == before


@pytest.mark.slow
def test_reading_needs_no_ray(tmp_path: Path) -> None:
    _, path = run_hills(tmp_path)
    code = (
        "import labs, sys; run = labs.load_run(sys.argv[1]); run.best()['height'] == 2.5 or exit(3)\n"
        "run.load_checkpoint(); sys.exit('ray' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)


def test_a_directory_that_holds_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a run directory"):
        load_run(tmp_path)
