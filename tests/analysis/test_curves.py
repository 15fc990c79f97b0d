"""Curves over seeds, read back from numbers and from the figure's artists."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from labs.analysis.configs import group_configs
from labs.analysis.curves import MAX_SHOWN, learning_curves, mean_curve

RUNS = {0: {2: 1.0, 4: 3.0, 6: 8.0}, 1: {2: 5.0, 3: 6.0, 6: 2.0, 9: 7.0}}


def history(runs: dict[int, dict[int, float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"trial": trial, "step": step, "val/loss": value, "train/loss": -value}
            for trial, points in runs.items()
            for step, value in points.items()
        ]
    )


def test_a_curve_is_the_mean_of_what_holds_and_ends_with_its_first_trial() -> None:
    curve = mean_curve(history(RUNS), [0, 1], "val/loss")
    assert curve is not None
    np.testing.assert_array_equal(curve.steps, [2, 3, 4, 6])
    np.testing.assert_allclose(curve.mean, [3.0, 3.5, 4.5, 5.0])
    # Student's t with one degree of freedom; the standard error of two values is half apart.
    half = 12.706204736 * np.array([4, 5, 3, 6]) / 2
    np.testing.assert_allclose(curve.high - curve.mean, half)
    np.testing.assert_allclose(curve.mean - curve.low, half)


def test_the_band_of_a_share_ends_at_0_and_1() -> None:
    points = [(0, 1, 0.9), (1, 1, 1.0), (0, 2, 0.0), (1, 2, 0.1)]
    for tag, within in (("val/accuracy", True), ("val/loss", False)):
        curve = mean_curve(pd.DataFrame(points, columns=["trial", "step", tag]), [0, 1], tag)
        assert curve is not None
        assert curve.low[0] < curve.mean[0] and curve.low[0] == pytest.approx(
            0.95 - 12.706 * 0.05, 1e-3
        )
        assert (curve.high[0] == 1 and curve.low[1] == 0) == within


def test_geometric_means_have_bands_above_0_and_need_positive_values() -> None:
    runs = {0: {1: 0.01, 2: 0.04}, 1: {1: 1.0, 2: 0.09}}
    curve = mean_curve(history(runs), [0, 1], "val/loss", geometric=True)
    assert curve is not None
    np.testing.assert_allclose(curve.mean, [0.1, 0.06])
    half = 12.706204736 * np.log([100, 0.09 / 0.04]) / 2
    np.testing.assert_allclose(curve.low, curve.mean * np.exp(-half))
    np.testing.assert_allclose(curve.high, curve.mean * np.exp(half))
    plain = mean_curve(history(runs), [0, 1], "val/loss")
    assert plain is not None and plain.low[0] < 0 < curve.low[0]
    with_0 = mean_curve(history({0: {1: 0.0}, 1: {1: 3.0}}), [0, 1], "val/loss", geometric=True)
    assert with_0 is not None and with_0.mean == [1.5]


def test_one_trial_has_no_band_and_an_unknown_metric_no_curve() -> None:
    curve = mean_curve(history(RUNS), [1], "val/loss")
    assert curve is not None
    np.testing.assert_array_equal(curve.mean, list(RUNS[1].values()))
    assert np.isnan(curve.low).all()
    assert mean_curve(history(RUNS), [1], "test/loss") is None
    assert mean_curve(history({0: {1: 1.0}, 1: {5: 1.0}}), [0, 1], "val/loss") is None


def grid(count: int, seeds: int) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"trial": c * seeds + s, "name": "", "rate": 0.1 + c, "seed": s, "status": "done"}
            | {"val/loss": 1.0}
            for c in range(count)
            for s in range(seeds)
        ]
    )


def test_a_line_per_config_and_what_the_bands_are() -> None:
    rng = np.random.default_rng(3)
    runs = {trial: dict(enumerate(rng.normal(size=5), start=1)) for trial in range(6)}
    configs = group_configs(grid(3, 2), "val/loss")
    titles = {"val/loss": "loss", "never/reported": "nothing"}
    figure = learning_curves(history(runs), configs, titles, "epoch")
    (panel,) = figure.axes
    assert panel.get_title() == "loss" and panel.get_xlabel() == "epoch"
    for place, line in enumerate(panel.get_lines()):
        pair = [np.array(list(runs[2 * place + s].values())) for s in (0, 1)]
        np.testing.assert_allclose(line.get_ydata(), np.mean(pair, axis=0))
        assert line.get_label() == f"rate={0.1 + place:g}"
    assert len({line.get_linestyle() for line in panel.get_lines()}) == 3
    assert len(panel.collections) == 3
    assert "95%" in figure.get_suptitle()


@pytest.mark.parametrize("count", [MAX_SHOWN + 3])
def test_the_figure_says_when_it_does_not_show_all_configs(count: int) -> None:
    runs = {trial: {1: 0.5, 2: 0.25} for trial in range(count)}
    figure = learning_curves(
        history(runs), group_configs(grid(count, 1), "val/loss"), {"val/loss": ""}
    )
    assert len(figure.axes[0].get_lines()) == MAX_SHOWN
    assert figure.get_suptitle() == f"{MAX_SHOWN} of {count} configs"
