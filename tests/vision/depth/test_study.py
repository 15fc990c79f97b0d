"""The depth study's tables and sentences, from made-up results."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from labs.runtime.errors import InputError
from labs.vision.depth.study import FamilyPlan, answers, best_by_depth, best_model, grid


def rows(family: str, depth: int, rate: float, val: list[float], test: list[float]) -> list[dict]:
    return [
        {"dataset": "d", "family": family, "depth": depth, "learning_rate": rate, "status": "done",
         "step": 1, "val/accuracy": v, "test/accuracy": t}
        for v, t in zip(val, test, strict=True)
    ]  # fmt: skip


TABLE = pd.DataFrame(
    rows("cnn", 3, 0.1, [0.9, 0.9, 0.9], [0.90, 0.91, 0.92])
    + rows("cnn", 3, 0.2, [0.8, 0.8, 0.8], [0.99, 0.99, 0.99])  # worse on validation: not chosen
    + rows("cnn", 51, 0.1, [0.4, 0.4, 0.4], [0.40, 0.50, 0.30])
    + rows("rescnn", 3, 0.1, [0.9, 0.9, 0.9], [0.90, 0.91, 0.89])
    + rows("rescnn", 51, 0.1, [0.95, 0.95, 0.96], [0.95, 0.96, 0.97])
)


def test_learning_rates_are_chosen_on_validation() -> None:
    best = best_by_depth(TABLE)
    assert len(best) == 12
    assert set(best[best["depth"] == 3]["learning_rate"]) == {0.1}
    assert best_model(TABLE)["test/accuracy"] == 0.97


def test_answers_with_their_intervals() -> None:
    plain, residual, skips = answers(TABLE)
    assert "CNN on d: from 3 to 51 convolutions" in plain
    assert "from 91.0% to 40.0%, a change of -51.0 points" in plain
    # Welch: variances 100 and 1 of three values each.
    error = math.sqrt(100 / 3 + 1 / 3)
    freedom = (101 / 3) ** 2 / ((100 / 3) ** 2 / 2 + (1 / 3) ** 2 / 2)
    assert freedom == pytest.approx(2.04, abs=0.01)
    half = 4.2258 * error  # t(0.975, 2.04)
    assert f"interval {-51 - half:+.1f} to {-51 + half:+.1f}, 3 seeds" in plain
    assert "more depth hurts" in plain
    assert "more depth helps; depth 51 is the best" in residual
    assert "are worth +56.0 points" in skips


def test_one_seed_cannot_tell() -> None:
    single = TABLE.groupby(["family", "depth", "learning_rate"], as_index=False).first()
    plain, residual, skips = answers(single)
    assert "cannot tell" in plain
    assert "cannot tell" in residual
    assert "no interval" in skips
    assert "only depth 3 was run" in answers(single[single["depth"] == 3])[0]


def test_close_runs_cannot_tell() -> None:
    table = pd.DataFrame(
        rows("cnn", 3, 0.1, [0.9, 0.9], [0.90, 0.94])
        + rows("cnn", 9, 0.1, [0.9, 0.9], [0.91, 0.95])
    )
    assert "these runs cannot tell whether more depth helps" in answers(table)[0]


def test_grid_order_and_refusals() -> None:
    plan = FamilyPlan("digits", (11, 3), (0.1, 0.2), epochs=1, batch_size=8, width=4)
    trials = grid({"cnn": plan, "rescnn": plan}, [0, 1])
    assert [t.depth for t in trials[:8]] == [3] * 4 + [11] * 4
    assert [t.family for t in trials] == ["cnn"] * 8 + ["rescnn"] * 8
    assert [t.seed for t in trials[:4]] == [0, 1, 0, 1]
    with pytest.raises(InputError, match="--seeds 0"):
        grid({"cnn": plan}, [])
