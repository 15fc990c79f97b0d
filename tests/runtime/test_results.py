"""The table of a grid, and what is asked of it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from labs.runtime.errors import InputError
from labs.runtime.reports import Objective
from labs.runtime.results import GridResult

STATUSES = ("done", "stopped", "failed", "interrupted")


def random_result(mode: str, statuses: list[str]) -> GridResult:
    generator = np.random.default_rng(len(statuses))
    table = pd.DataFrame(
        {
            "trial": range(len(statuses)),
            "name": [f"{n:03d}-trial" for n in range(len(statuses))],
            "status": statuses,
            "val/loss": generator.normal(size=len(statuses)),
            "checkpoint": [f"{n}/best.pt" for n in range(len(statuses))],
        }
    )
    table.loc[0, "val/loss"] = np.nan  # done, without the metric
    return GridResult(table, pd.DataFrame(), Objective("val/loss", mode))


@pytest.mark.parametrize("mode", ["min", "max"])
def test_each_status_has_its_rows_and_only_finished_trials_can_be_best(mode: str) -> None:
    statuses = ["done", *np.random.default_rng(3).permutation(STATUSES * 6)]
    result = random_result(mode, statuses)
    parts = (result.finished, result.stopped, result.failed, result.interrupted)
    for status, rows in zip(STATUSES, parts, strict=True):
        assert list(rows["trial"]) == [n for n, s in enumerate(statuses) if s == status]
    values = {n: result.table["val/loss"][n] for n in result.finished["trial"] if n}
    expected = (min if mode == "min" else max)(values, key=values.__getitem__)
    assert result.best()["trial"] == expected
    other = (max if mode == "min" else min)(values, key=values.__getitem__)
    assert result.best("val/loss", "max" if mode == "min" else "min")["trial"] == other
    assert result.exit_status == 1


def test_without_a_finished_trial_or_a_value_there_is_no_best_one() -> None:
    assert random_result("max", ["stopped"] * 3).best() is None
    assert random_result("max", ["done", "failed"]).best() is None
    assert random_result("max", ["done"]).best("val/accuracy") is None
    assert random_result("max", ["done", "stopped"]).exit_status == 0
    result = random_result("max", ["done"])
    with pytest.raises(InputError, match="`metric`"):
        GridResult(result.table, result.history).best()
    with pytest.raises(InputError, match="`mode` 'most'"):
        Objective("val/loss", "most")


def test_results_need_neither_ray_nor_tune() -> None:
    code = "import sys, labs.runtime.results; print([m for m in sys.modules if m == 'ray'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
