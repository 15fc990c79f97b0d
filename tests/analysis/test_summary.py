"""Tables, sentences and figures over seeds."""

from __future__ import annotations

import math
import re

import numpy as np
import pandas as pd
import pytest

from labs.analysis.configs import group_configs
from labs.analysis.decisions import decide
from labs.analysis.figures import field_panels
from labs.analysis.summary import shown_summary, summarise
from labs.analysis.verdicts import sentences

METRIC = "val/loss"


def grid(scores: dict[tuple[str, float], list[float | str]]) -> pd.DataFrame:
    """A grid's table: per optimizer and rate a score for each seed, or how the trial ended."""
    rows = []
    for (optimizer, rate), outcomes in scores.items():
        for seed, outcome in enumerate(outcomes):
            done = not isinstance(outcome, str)
            rows.append(
                {"trial": len(rows), "name": f"{len(rows):03d}", "optimizer": optimizer}
                | {"rate": rate, "width": 16, "seed": seed, "status": "done" if done else outcome}
                | {METRIC: outcome if done else 0.001}
            )
    return pd.DataFrame(rows)


RNG = np.random.default_rng(12)
CLOSE = list(2.0 + 0.5 * RNG.normal(size=5))
TABLE = grid(
    {
        ("adam", 0.01): CLOSE,
        ("adam", 0.1): list(5.0 + 0.1 * RNG.normal(size=5)),
        ("sgd", 0.01): [value + 0.2 for value in CLOSE],
        ("sgd", 0.1): [0.5, 0.6, "stopped", "stopped", "failed"],
    }
)


@pytest.mark.parametrize(
    ("metric", "scores", "ends"),
    [
        ("val/accuracy", [0.9, 1.0], (0.315, 1.0)),
        ("eval/success_rate", [0.0, 0.1], (0.0, 0.685)),
        ("test/macro_f1", [0.9, 1.0], (0.315, 1.0)),
        ("val/loss", [0.9, 1.0], (0.315, 1.585)),
        ("val/accuracy", [90.0, 100.0], (31.469, 158.531)),  # in percent
        ("train/learning_rate", [0.0, 0.1], (-0.585, 0.685)),
    ],
)
def test_the_interval_of_a_share_ends_at_0_and_1_in_table_sentences_and_figure(
    metric: str, scores: list[float], ends: tuple[float, float]
) -> None:
    table = grid({("adam", 0.01): scores, ("adam", 0.1): scores}).rename(columns={METRIC: metric})
    row = summarise(table, metric, "max").iloc[0]
    assert (row["low"], row["high"]) == pytest.approx(ends, abs=1e-3)
    configs = group_configs(table, metric)
    text = sentences(configs, decide(configs, "max"), metric)[0]
    told = [float(end) for end in re.findall(r"\[(.*?), (.*?)\]", text)[0]]
    assert told == pytest.approx(ends, rel=1e-3, abs=1e-3)
    figure = field_panels(configs, metric)
    assert figure is not None
    bars = figure.axes[0].collections[0].get_segments()
    drawn = [end for bar in bars for end in bar[:, 1] if np.isfinite(bar).all()]
    assert drawn and np.allclose((min(drawn), max(drawn)), ends, atol=1e-3)


def test_a_row_per_config_the_best_first() -> None:
    table = summarise(TABLE, METRIC, "min")
    assert list(table.columns) == [
        "config", "optimizer", "rate", "mean", "low", "high", "n", "stopped", "failed", "unfinished",
    ]  # fmt: skip
    assert list(table["config"]) == [
        "adam rate=0.01", "sgd rate=0.01", "adam rate=0.1", "sgd rate=0.1",
    ]  # fmt: skip
    best = table.iloc[0]
    half = 2.776445105 * np.std(CLOSE, ddof=1) / math.sqrt(5)
    assert best["mean"] == pytest.approx(np.mean(CLOSE))
    assert (best["low"], best["high"]) == pytest.approx((best["mean"] - half, best["mean"] + half))
    assert list(table["n"]) == [5, 5, 5, 2]


def test_a_config_with_stopped_seeds_is_last_and_without_an_interval() -> None:
    last = summarise(TABLE, METRIC, "min").iloc[-1]  # although its mean is the smallest
    assert last["mean"] == pytest.approx(0.55)
    assert math.isnan(last["low"]) and math.isnan(last["high"])
    assert (last["stopped"], last["failed"]) == (2, 1)


def test_trials_that_have_not_ended_are_not_called_failed() -> None:
    status = TABLE["status"].replace("failed", "interrupted")
    summary = summarise(TABLE.assign(status=status), METRIC, "min")
    last = summary.iloc[-1]
    assert (last["stopped"], last["failed"], last["unfinished"]) == (2, 0, 1)
    assert math.isnan(last["low"])
    shown = shown_summary(summary, METRIC)
    assert list(shown.columns[-3:]) == ["stopped", "failed", "unfinished"]
    assert "unfinished" not in shown_summary(summarise(TABLE, METRIC, "min"), METRIC)


def said(table: pd.DataFrame, mode: str = "min", **default: object) -> list[str]:
    configs = group_configs(table, METRIC)
    return sentences(configs, decide(configs, mode, default=default or None), METRIC)


def test_undecided_configs_are_named_with_the_number_of_seeds_needed() -> None:
    best, default, left = said(TABLE, optimizer="adam", rate=0.1, width=16)
    assert best.startswith("The best mean is that of adam rate=0.01: val/loss ")
    assert "cannot tell it from sgd rate=0.01 (about " in best
    assert "adam rate=0.1" not in best
    assert default.startswith("Better than the defaults (adam rate=0.1): adam rate=0.01 by -")
    assert "sgd rate=0.01 by -" in default
    assert left.endswith("did not finish: sgd rate=0.1 (2 stopped and 1 failed of 5).")


def test_the_best_config_is_named() -> None:
    table = TABLE[~TABLE["trial"].between(10, 14)]
    (best, *_) = said(table)
    assert best.startswith("The best of 2 configs is adam rate=0.01: val/loss")
    assert "5 seeds; it is significantly better than the other." in best


def test_too_few_seeds_and_nothing_at_all() -> None:
    assert "use 3 or more" in said(TABLE[TABLE["seed"] < 2])[0]
    assert said(TABLE[TABLE["trial"] >= 15])[0].startswith("No config can be judged by val/loss")
    assert said(TABLE[TABLE["trial"] < 5])[0].startswith(
        "One config, with nothing to compare it to: val/"
    )
    two = TABLE[(TABLE["trial"] < 5) | (TABLE["trial"] >= 15)]
    assert said(two)[0].startswith("Only one config can be judged: adam rate=0.01: val/loss")
    equal = grid({("adam", 0.01): [1.0, 2.0, 3.0], ("sgd", 0.01): [1.5, 2.0, 3.0]})
    assert said(equal, optimizer="sgd", rate=0.01, width=16)[1].startswith("No config can be told")


def test_seeds_that_change_nothing_are_a_doubt() -> None:
    same = {("adam", 0.01): [0.25] * 3, ("sgd", 0.01): [0.5] * 2}
    assert said(grid(same))[-1] == (
        "All seeds of a config have the same val/loss: does the training use its seed?"
    )
    assert said(grid({("adam", 0.01): [0.25]}))[-1].startswith("One config")
    other = {**same, ("sgd", 0.1): [0.5, 0.5, 0.6]}
    assert not any("does the training" in text for text in said(grid(other)))


def test_the_metric_against_each_field() -> None:
    figure = field_panels(group_configs(TABLE, METRIC), METRIC)
    assert figure is not None
    optimizer, rate = figure.axes
    assert [axes.get_xlabel() for axes in (optimizer, rate)] == ["optimizer", "rate"]
    assert [tick.get_text() for tick in optimizer.get_xticklabels()] == ["adam", "sgd"]
    assert rate.get_xscale() == "log"
    means = [line.get_ydata()[0] for line in rate.get_lines() if len(line.get_xdata()) == 1]
    assert pytest.approx(np.mean(CLOSE)) in means
    dots = [line for line in rate.get_lines() if line.get_marker() == "."]
    np.testing.assert_allclose(dots[0].get_ydata(), CLOSE)
    # Two configs at rate 0.1, of which one is drawn hollow: it has stopped seeds.
    hollow = [line for line in rate.get_lines() if line.get_markerfacecolor() == "white"]
    assert [line.get_xdata()[0] for line in hollow] == [0.1]
    assert "95%" in figure.get_suptitle()
    assert field_panels(group_configs(TABLE[:5], METRIC), METRIC) is None
