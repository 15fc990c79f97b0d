"""Figures of the topic classifier: confusions, the map of texts, and the choice of C."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.manifold import TSNE

from labs.analysis import style
from labs.language.topics.classifier import METRIC
from labs.language.topics.evaluation import Evaluation
from labs.statistics import mean_interval

TITLES = {
    "embeddings": "Embeddings",
    "tfidf": "TF-IDF",
    "tfidf_chars": "TF-IDF of characters",
    "tfidf_both": "TF-IDF of words and characters",
}


def class_colours(classes: Sequence[str]) -> list[style.Colour]:
    """A colour per class, the same in all figures."""
    return style.colours(len(classes))


def confusion_figure(evaluation: Evaluation, classes: Sequence[str]) -> Figure:
    """The confusion matrix: counts, and the share of each true class (the colour)."""
    counts = evaluation.confusion
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.6 + 0.95 * min(len(classes), 12)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= 12:
        for true, predicted in np.ndindex(counts.shape):
            share = shares[true, predicted]
            axes.text(
                predicted,
                true,
                f"{counts[true, predicted]:,}\n{100 * share:.1f}%",
                ha="center",
                va="center",
                color="white" if share > 0.5 else "black",
            )
    positions = range(len(classes))
    style.name_ticks(axes, classes)
    axes.set_yticks(positions, classes)
    axes.set(xlabel="predicted class", ylabel="true class")
    accuracy = evaluation.metrics["accuracy"]
    axes.set_title(f"{counts.sum():,} test texts, accuracy {accuracy.format(1, scale=100)}%")
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    return figure


def choice_figure(history: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Cross-validated accuracy against C, a line per kind of features.

    Bars are 95% intervals over the folds.

    Args:
        history: one row per fold: ``trial`` and ``fold/accuracy``.
        table: one row per trial: ``trial``, ``features``, ``c`` and ``val/accuracy``.
    """
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    kinds = list(table.dropna(subset=[METRIC]).groupby("features"))
    for place, (features, trials) in enumerate(kinds):
        ordered = trials.sort_values("c")
        intervals = [
            mean_interval(
                history.loc[history["trial"] == trial, "fold/accuracy"].to_numpy()
            ).within(0, 1)
            for trial in ordered["trial"]
        ]
        means = np.array([interval.estimate for interval in intervals])
        bars = [
            means - [interval.low for interval in intervals],
            np.array([interval.high for interval in intervals]) - means,
        ]
        axes.errorbar(
            ordered["c"],
            100 * means,
            100 * np.array(bars),
            color=style.colours(len(kinds))[place],
            ls=style.line_style(place),
            marker="o",
            capsize=3,
            label=TITLES[str(features)],
        )
    axes.set_xscale("log")
    axes.set(xlabel="C (inverse strength of the penalty)", ylabel="cross-validated accuracy, %")
    style.explain(figure, "means over the folds; bars: 95% intervals")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def map_texts(
    vectors: Mapping[str, np.ndarray], count: int, seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Lay texts out in the plane by t-SNE (van der Maaten and Hinton, 2008).

    Args:
        vectors: ``[n, width]`` by name, for instance of the training and the test set.
        count: texts that are drawn of each.

    Returns:
        The chosen row numbers ``[m]`` and their positions ``[m, 2]``, both by name.
    """
    rng = np.random.default_rng(seed)
    chosen = {name: np.sort(rng.permutation(len(rows))[:count]) for name, rows in vectors.items()}
    joined = np.concatenate([vectors[name][rows] for name, rows in chosen.items()])
    perplexity = min(30.0, (len(joined) - 1) / 4)
    positions = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(joined)
    cuts = np.cumsum([len(rows) for rows in chosen.values()])[:-1]
    return chosen, dict(zip(chosen, np.split(positions, cuts), strict=True))


def map_figure(
    positions: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    classes: Sequence[str],
) -> Figure:
    """One panel per set of texts, in the same plane; the colour is the true class.

    Args:
        positions: ``[m, 2]`` by name.
        labels: int64 ``[m]`` by name.
    """
    colours = class_colours(classes)
    figure = Figure(figsize=(5.6 * len(positions), 5.9), layout="constrained")
    panels: np.ndarray = figure.subplots(1, len(positions), sharex=True, sharey=True, squeeze=False)
    for axes, (name, points) in zip(panels[0], positions.items(), strict=True):
        _scatter(axes, points, np.array(colours)[labels[name]])
        axes.set_title(f"{len(points):,} {name} texts")
    handles = [
        Line2D([], [], linestyle="", marker="o", color=colour, label=name)
        for name, colour in zip(classes, colours, strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(classes)))
    return figure


def _scatter(axes: Axes, points: np.ndarray, colours: np.ndarray) -> None:
    size = 60 / np.sqrt(max(len(points), 40))
    axes.scatter(points[:, 0], points[:, 1], s=4 * size, c=colours, alpha=0.7, linewidths=0)
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal")
