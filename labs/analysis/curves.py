"""Learning curves of a grid: a line per config, with a band over its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from labs.analysis import style
from labs.analysis.configs import ConfigRuns
from labs.statistics import geometric_band, mean_band, value_range

MAX_SHOWN = 12
"""Largest number of lines in a panel that can be distinguished."""


@dataclass(frozen=True)
class Curve:
    """The mean of a metric over the seeds of a config, step by step."""

    steps: np.ndarray
    """Steps at which any seed reported, as far as all seeds have a value, ``[t]``."""

    mean: np.ndarray
    """float64 ``[t]``."""

    low: np.ndarray
    high: np.ndarray
    """Pointwise 95% interval of the mean (Student's t; within 0 and 1 for a share), float64 ``[t]`` each;
    NaN if there is none."""


def mean_curve(
    history: pd.DataFrame, trials: Sequence[int], metric: str, geometric: bool = False
) -> Curve | None:
    """The mean over ``trials``; between two reports of a trial, the value of the earlier one is used.

    The curve ends where the first trial ends, since beyond it would be the mean of only some trials.

    Args:
        history: one row per report: ``trial``, ``step`` and the metrics.
        trials: numbers of the trials, one per seed.
        metric: the metric; reports without it are ignored.
        geometric: use the geometric mean, for a logarithmic axis, where its interval cannot reach 0. A
            metric with values of 0 or less gets arithmetic means.

    Returns:
        The curve; None if the trials have no step in common.
    """
    if metric not in history:
        return None
    reports = history.loc[history["trial"].isin(trials)].dropna(subset=[metric])
    runs = [run[["step", metric]].to_numpy(float) for _, run in reports.groupby("trial")]
    if not runs:
        return None
    first, last = max(run[0, 0] for run in runs), min(run[-1, 0] for run in runs)
    steps = np.unique(np.concatenate([run[:, 0] for run in runs]))
    steps = steps[(steps >= first) & (steps <= last)]
    if not steps.size:
        return None
    held = np.stack([run[np.searchsorted(run[:, 0], steps, "right") - 1, 1] for run in runs])
    band = geometric_band if geometric and held.min() > 0 else mean_band
    mean, *ends = band(held)
    low, high = (end.clip(*value_range(metric, held)) for end in ends)
    return Curve(steps, mean, low, high)


def learning_curves(
    history: pd.DataFrame,
    configs: Sequence[ConfigRuns],
    panels: Mapping[str, str],
    xlabel: str = "step",
) -> Figure:
    """A panel per metric, a line per config; the first ``MAX_SHOWN`` configs are drawn.

    Args:
        history: one row per report: ``trial``, ``step`` and the metrics.
        configs: the result of ``group_configs`` or ``ranked``.
        panels: titles by metric; metrics without reports are left out.
        xlabel: label of the x axis, with the unit of a step.
    """
    shown = configs[:MAX_SHOWN]
    tags = [tag for tag in panels if tag in history and history[tag].notna().any()]
    columns = max(1, len(tags))
    figure = Figure(figsize=(max(6.4, 5.2 * columns), 4.4), layout="constrained")
    grid = figure.subplots(1, columns, squeeze=False)[0]
    for axes, tag in zip(grid, tags, strict=False):
        _draw(axes, history, shown, tag)
        axes.set(xlabel=xlabel, title=panels[tag])
    handles, labels = grid[0].get_legend_handles_labels()
    if len(shown) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize="small")
    notes = []
    if any(len(config.trials) > 1 for config in shown):
        notes.append("lines: means over the seeds; bands: 95% intervals of the mean")
    if len(shown) < len(configs):
        notes.append(f"{len(shown)} of {len(configs)} configs")
    style.explain(figure, "; ".join(notes))
    return figure


def _draw(axes: Axes, history: pd.DataFrame, configs: Sequence[ConfigRuns], metric: str) -> None:
    for place, (config, colour) in enumerate(
        zip(configs, style.colours(len(configs)), strict=True)
    ):
        curve = mean_curve(history, config.trials, metric)
        if curve is None:
            continue
        marker = "o" if len(curve.steps) == 1 else None
        line = style.line_style(place)
        axes.plot(curve.steps, curve.mean, ls=line, color=colour, marker=marker, label=config.label)
        style.draw_band(axes, curve.steps, curve.low, curve.high, colour)
    axes.grid(alpha=0.3)
