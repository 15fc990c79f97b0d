"""Figures of the depth study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from labs.analysis import style
from labs.analysis.configs import ConfigRuns
from labs.analysis.curves import mean_curve
from labs.analysis.figures import error_bars
from labs.analysis.style import Colour
from labs.analysis.summary import score_interval
from labs.vision.depth.study import best_by_depth
from labs.vision.models import FAMILIES, FAMILY_TITLES
from labs.vision.style import depth_shades, family_colour

_SPLITS = {"val": ("-", "validation"), "train": ("--", "training")}


def dataset_title(name: str) -> str:
    """A built-in data set's name, or the last part of a folder's path."""
    return Path(name).name or name


def curves(history: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Loss and accuracy over epochs, one column per family and data set.

    Solid lines are validation, dashed ones training; each is the mean over the seeds at the depth's
    best learning rate (by validation accuracy), the former with its 95% band. The loss, on a logarithmic
    axis, has geometric means.

    Args:
        history: one row per report: ``trial``, ``step`` and the metrics.
        table: one row per trial: ``trial``, ``status``, the ``DepthTrial`` fields and the metrics.
    """
    columns: dict[tuple[int, str], dict[int, ConfigRuns]] = {}  # by family and data set
    for config in best_by_depth(table):
        key = (FAMILIES.index(config.fields["family"]), config.fields["dataset"])
        columns.setdefault(key, {})[config.fields["depth"]] = config
    figure = Figure(figsize=(4.2 * max(2, len(columns)), 6.4), layout="constrained")
    axes = figure.subplots(2, max(1, len(columns)), squeeze=False, sharex="col", sharey="row")
    for column, ((place, dataset), models) in enumerate(sorted(columns.items())):
        family = FAMILIES[place]
        colours = depth_shades(family, models)
        for row, (metric, scale) in enumerate((("loss", 1.0), ("accuracy", 100.0))):
            for depth, config in models.items():
                _draw_curves(axes[row, column], history, config, metric, (scale, colours[depth]))
        axes[0, column].set_title(f"{FAMILY_TITLES[family]} on {dataset_title(dataset)}")
        axes[0, column].set_yscale("log")
        axes[1, column].set_ylim(0, 102)
        axes[1, column].set_xlabel("epoch")
        axes[1, column].legend(handles=_depth_handles(colours), fontsize="small", loc="lower right")
    axes[0, 0].set_ylabel("cross-entropy")
    axes[1, 0].set_ylabel("accuracy, %")
    for panel in axes.flat:
        panel.grid(alpha=0.3)
    styles = [Line2D([], [], color="0.3", ls=ls, label=label) for ls, label in _SPLITS.values()]
    figure.legend(handles=styles, fontsize="small", loc="outside lower center", ncols=2)
    means = "lines: means over the seeds (of the loss: geometric)"
    style.explain(figure, f"{means}; bands: 95% intervals of the mean")
    return figure


def _draw_curves(
    panel: Axes,
    history: pd.DataFrame,
    config: ConfigRuns,
    metric: str,
    look: tuple[float, Colour],
) -> None:
    scale, colour = look
    for split, (line, _) in _SPLITS.items():
        curve = mean_curve(history, config.trials, f"{split}/{metric}", geometric=metric == "loss")
        if curve is None:
            continue
        panel.plot(curve.steps, scale * curve.mean, line, color=colour, lw=1.6)
        if split == "val":
            style.draw_band(panel, curve.steps, scale * curve.low, scale * curve.high, colour)


def accuracy_against_depth(table: pd.DataFrame) -> Figure:
    """Test accuracy against depth, plain beside residual, one panel per data set.

    Each depth at its best learning rate (by validation accuracy): the mean with its 95% interval
    over seeds (Student's t), and every seed as a dot. The MLP, whose depth counts something else,
    is drawn only where no CNN is.

    Args:
        table: as for ``curves``.
    """
    best = best_by_depth(table)
    best = [config for config in best if config.fields["family"] != "mlp"] or best
    datasets = list(dict.fromkeys(config.fields["dataset"] for config in best))
    figure = Figure(figsize=(max(5.6, 5.6 * len(datasets)), 4.2), layout="constrained")
    axes = figure.subplots(1, max(1, len(datasets)), squeeze=False)[0]
    for panel, dataset in zip(axes, datasets, strict=False):
        chosen = [config for config in best if config.fields["dataset"] == dataset]
        families = {config.fields["family"] for config in chosen}
        for place, family in enumerate(name for name in FAMILIES if name in families):
            models = [config for config in chosen if config.fields["family"] == family]
            _draw_depths(panel, sorted(models, key=_depth), family, style.line_style(place))
        style.plain_log_axis(panel, sorted({_depth(config) for config in chosen}))
        counted = "hidden layers" if families == {"mlp"} else "convolutions"
        panel.set(title=dataset_title(dataset), xlabel=f"depth ({counted})")
        panel.set_ylabel("test accuracy, % (mean, 95% interval)")
        panel.grid(alpha=0.3)
        panel.legend()
    return figure


def _depth(config: ConfigRuns) -> int:
    return int(config.fields["depth"])


def _draw_depths(
    panel: Axes, models: Sequence[ConfigRuns], family: str, line: style.LineStyle
) -> None:
    depths = [_depth(config) for config in models]
    intervals = [score_interval(config).scaled(100) for config in models]
    means = [interval.estimate for interval in intervals]
    colour = family_colour(family)
    panel.errorbar(
        depths,
        means,
        error_bars(intervals),
        fmt="o",
        ls=line,
        capsize=4,
        color=colour,
        label=FAMILY_TITLES[family],
    )
    for depth, config in zip(depths, models, strict=True):
        dots = np.full(len(config.scores), depth)
        panel.plot(dots, 100 * config.scores, ".", color=colour, alpha=0.4, ms=5)


def _depth_handles(colours: Mapping[int, Colour]) -> list[Line2D]:
    return [
        Line2D([], [], color=colour, lw=2, label=f"depth {depth}")
        for depth, colour in colours.items()
    ]
