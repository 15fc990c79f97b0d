"""What embeddings are worth at few and at many training texts: accuracy on the test set by their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from labs.analysis import style
from labs.language.topics.classifier import (
    METRIC,
    TEST_METRIC,
    Features,
    TopicTrial,
    draw_subset,
)
from labs.language.topics.figures import TITLES
from labs.runtime.errors import InputError
from labs.statistics import Interval, mean_interval

DRAWS = 5
"""Sets of training texts per size; their spread gives the interval."""


def check_train_sizes(
    sizes: Sequence[int], labels: np.ndarray, classes: Sequence[str], folds: int, seed: int
) -> None:
    """Refuse sizes that cannot be drawn or cross-validated.

    Raises:
        InputError: a size is not below the number of training texts, or too small for the folds.
    """
    for size in sizes:
        room = len(labels) - len(classes)
        if not len(classes) <= size <= room:
            raise InputError(
                f"`train_sizes` {size} must be between {len(classes)} and {room}; all"
                f" {len(labels)} training texts are the curve's last point in any case"
            )
        counts = np.bincount(labels[draw_subset(labels, size, seed, 0)], minlength=len(classes))
        if counts.min() < folds:
            raise InputError(
                f"`train_sizes` {size}: class {classes[int(counts.argmin())]!r} has {counts.min()} of"
                f" them, and there are {folds} folds (`folds`)"
            )


def curve_trials(trials: Sequence[TopicTrial], sizes: Sequence[int]) -> list[TopicTrial]:
    """Every trial at every size on every draw: C is chosen again at each point."""
    return [
        TopicTrial(
            trial.features, trial.c, trial.folds, trial.seed, trial.classifier, size, draw
        )
        for trial in trials
        for size in sorted(set(sizes))
        for draw in range(DRAWS)
    ]  # fmt: skip


def curve_table(
    table: pd.DataFrame, whole: Mapping[Features, Interval], train_size: int
) -> pd.DataFrame:
    """One row per kind of features and size, the smallest first.

    Of each draw the C counts that has the best cross-validated accuracy (of equal ones the smallest);
    the test texts have no say in it.

    Args:
        table: ``GridResult.table`` of the trials.
        whole: accuracy on the test set, by features, after training on all ``train_size`` texts.

    Returns:
        ``features``, ``train_size``, ``draws``, ``accuracy``, ``low``, ``high``: the mean over the draws
        with Student's interval; of all training texts, which are one draw, the given interval.
    """
    rows: list[tuple[str, int, int, float, float, float]] = []
    for key, group in _chosen(table).groupby(["features", "train_size"]):
        features, size = cast(tuple[str, float], key)
        found = mean_interval(group[TEST_METRIC].to_numpy()).within(0, 1)
        rows.append((features, int(size), len(group), found.estimate, found.low, found.high))
    for name, found in whole.items():
        rows.append((name, train_size, 1, found.estimate, found.low, found.high))
    names = ["features", "train_size", "draws", "accuracy", "low", "high"]
    return pd.DataFrame(rows, columns=names).sort_values(
        ["features", "train_size"], ignore_index=True
    )


def _chosen(table: pd.DataFrame) -> pd.DataFrame:
    """Of each draw the row of the best C, with the smallest and largest one tried, ``least`` and ``most``."""
    draw = ["features", "train_size", "draw"]
    points = table[table["train_size"].notna() & table[METRIC].notna()]
    tried = points.groupby(draw)["c"]
    points = points.assign(least=tried.transform("min"), most=tried.transform("max"))
    ordered = points.sort_values([METRIC, "c"], ascending=[False, True])
    return ordered.groupby(draw, as_index=False).first()


def edges_note(table: pd.DataFrame) -> str:
    """A sentence on the points whose C was the smallest or the largest one tried, or "".

    Args:
        table: ``GridResult.table`` of the trials.
    """
    chosen = _chosen(table)
    chosen = chosen[chosen["least"] < chosen["most"]]
    at_edge = (chosen["c"] == chosen["least"]) | (chosen["c"] == chosen["most"])
    if not at_edge.any():
        return ""
    counts = at_edge.groupby(chosen["features"]).agg(["sum", "size"])
    said = [
        f"{edges} of {draws} draws of {TITLES[str(features)]}"
        for features, edges, draws in counts.itertuples()
        if edges
    ]
    return (
        f"on the learning curve the best C is the smallest or the largest one tried for"
        f" {' and '.join(said)}: a better one may lie beyond it"
    )


def curve_figure(curve: pd.DataFrame) -> Figure:
    """Accuracy with its interval over the number of training texts, a line per kind of features."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    kinds = list(curve.groupby("features"))
    for place, (features, points) in enumerate(kinds):
        ends = [points["accuracy"] - points["low"], points["high"] - points["accuracy"]]
        axes.errorbar(
            points["train_size"],
            100 * points["accuracy"],
            100 * np.array(ends),
            color=style.colours(len(kinds))[place],
            ls=style.line_style(place),
            marker="o",
            capsize=3,
            label=TITLES[str(features)],
        )
    axes.set_xscale("log")
    axes.set(xlabel="training texts", ylabel="accuracy on the test texts, %")
    style.explain(
        figure, "means over the draws; bars: 95% intervals (at the right end: over the test texts)"
    )
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
