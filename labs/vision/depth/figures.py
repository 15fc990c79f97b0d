"""Figures of the depth study."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from labs.analysis import style
from labs.analysis.style import Colour
from labs.statistics import mean_interval
from labs.vision.depth.study import best_by_depth
from labs.vision.models import FAMILIES, FAMILY_TITLES
from labs.vision.style import depth_shades, family_colour


def dataset_title(name: str) -> str:
    """A built-in data set's name, or the last part of a folder's path."""
    return Path(name).name or name


def curves(history: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Loss and accuracy over epochs, one column per family and data set.

    Solid lines are validation, dashed ones training; each is the mean over the seeds at the depth's
    best learning rate (by validation accuracy).

    Args:
        history: one row per report: ``trial``, ``step`` and the metrics.
        table: one row per trial: ``trial``, ``status``, the ``DepthTrial`` fields and the metrics.
    """
    trials = best_by_depth(table)[["trial", "dataset", "family", "depth"]]
    points = history.merge(trials, on="trial")
    columns = _panels(trials)
    figure = Figure(figsize=(4.2 * max(2, len(columns)), 6.4), layout="constrained")
    axes = figure.subplots(2, len(columns), squeeze=False, sharex="col", sharey="row")
    for column, (dataset, family) in enumerate(columns):
        chosen = points[(points["dataset"] == dataset) & (points["family"] == family)]
        colours = depth_shades(family, chosen["depth"])
        for row, (metric, scale) in enumerate((("loss", 1), ("accuracy", 100))):
            for depth, colour in colours.items():
                means = chosen[chosen["depth"] == depth].groupby("step").mean(numeric_only=True)
                for split, line in (("val", "-"), ("train", "--")):
                    values = scale * means[f"{split}/{metric}"]
                    axes[row, column].plot(values.index, values, line, color=colour, lw=1.6)
        axes[0, column].set_title(f"{FAMILY_TITLES[family]} on {dataset_title(dataset)}")
        axes[0, column].set_yscale("log")
        axes[1, column].set_ylim(0, 102)
        axes[1, column].set_xlabel("epoch")
        axes[1, column].legend(handles=_depth_handles(colours), fontsize="small", loc="lower right")
    axes[0, 0].set_ylabel("cross-entropy")
    axes[1, 0].set_ylabel("accuracy, %")
    for panel in axes.flat:
        panel.grid(alpha=0.3)
    styles = [Line2D([], [], color="0.3", ls=ls, label=label) for ls, label in _SPLIT_STYLES]
    axes[0, 0].legend(handles=styles, fontsize="small", loc="lower left")
    return figure


_SPLIT_STYLES = (("-", "validation"), ("--", "training"))


def accuracy_against_depth(table: pd.DataFrame) -> Figure:
    """Test accuracy against depth, plain beside residual, one panel per data set.

    Each depth at its best learning rate (by validation accuracy): the mean with its 95% interval
    over seeds (Student's t), and every seed as a dot. The MLP, whose depth counts something else,
    is drawn only where there is no other family.

    Args:
        table: as for ``curves``.
    """
    best = best_by_depth(table)
    convolutional = best[best["family"] != "mlp"]
    best = convolutional if len(convolutional) else best
    datasets = list(dict.fromkeys(best["dataset"]))
    figure = Figure(figsize=(5.6 * len(datasets), 4.2), layout="constrained")
    axes = figure.subplots(1, len(datasets), squeeze=False)[0]
    for panel, dataset in zip(axes, datasets, strict=True):
        chosen = best[best["dataset"] == dataset]
        for family in (name for name in FAMILIES if name in set(chosen["family"])):
            _draw_depths(panel, chosen[chosen["family"] == family], family)
        style.plain_log_axis(panel, sorted(chosen["depth"].unique()))
        counted = "hidden layers" if set(chosen["family"]) == {"mlp"} else "convolutions"
        panel.set(title=dataset_title(dataset), xlabel=f"depth ({counted})")
        panel.set_ylabel("test accuracy, %")
        panel.grid(alpha=0.3)
        panel.legend()
    return figure


def _draw_depths(panel: Axes, trials: pd.DataFrame, family: str) -> None:
    depths = sorted(trials["depth"].unique())
    by_depth = [100 * trials.loc[trials["depth"] == depth, "test/accuracy"] for depth in depths]
    intervals = [mean_interval(values.to_numpy()).within(0, 100) for values in by_depth]
    means = [interval.estimate for interval in intervals]
    errors = [
        [i.estimate - i.low if math.isfinite(i.low) else 0.0 for i in intervals],
        [i.high - i.estimate if math.isfinite(i.high) else 0.0 for i in intervals],
    ]
    colour = family_colour(family)
    panel.errorbar(
        depths, means, errors, fmt="o-", capsize=4, color=colour, label=FAMILY_TITLES[family]
    )
    for depth, values in zip(depths, by_depth, strict=True):
        panel.plot([depth] * len(values), values, ".", color=colour, alpha=0.4, ms=5)


def _panels(trials: pd.DataFrame) -> list[tuple[str, str]]:
    """Data set and family of each column, in the order of the families."""
    pairs = set(zip(trials["dataset"], trials["family"], strict=True))
    return sorted(pairs, key=lambda pair: (FAMILIES.index(pair[1]), pair[0]))


def _depth_handles(colours: dict[int, Colour]) -> list[Line2D]:
    return [
        Line2D([], [], color=colour, lw=2, label=f"depth {depth}")
        for depth, colour in colours.items()
    ]
