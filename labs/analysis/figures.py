"""Figures of the metric of a grid against each field that varies."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from labs.analysis import style
from labs.analysis.configs import ConfigRuns, config_label
from labs.analysis.summary import score_interval, varying_fields
from labs.statistics import Interval

_MAX_LEGEND = 10
_LOG_RANGE = 8.0  # values that span a larger factor get a logarithmic axis


def field_panels(configs: Sequence[ConfigRuns], metric: str) -> Figure | None:
    """A panel per field that varies, with a line for each combination of the other fields.

    Points are means over the seeds with their 95% intervals (Student's t), small dots are the seeds. A
    config that is not complete is hollow and has no interval. ``None`` if no field varies.
    """
    fields = varying_fields(configs)
    if not fields:
        return None
    figure = Figure(figsize=(max(6.4, 4.8 * len(fields)), 4.4), layout="constrained")
    grid = figure.subplots(1, len(fields), sharey=True, squeeze=False)[0]
    for axes, field in zip(grid, fields, strict=True):
        _draw_field(axes, configs, field, fields)
    grid[0].set_ylabel(metric)
    style.explain(
        figure,
        "means over the seeds with 95% intervals; dots: seeds; hollow: some seeds did not finish",
    )
    return figure


def _draw_field(
    axes: Axes, configs: Sequence[ConfigRuns], field: str, fields: Sequence[str]
) -> None:
    places = _place_values(axes, [config.fields[field] for config in configs])
    lines: dict[str, list[ConfigRuns]] = {}
    for config in configs:
        others = {name: config.fields[name] for name in fields if name != field}
        lines.setdefault(config_label(others) if others else "", []).append(config)
    for number, (label, members) in enumerate(lines.items()):
        colour = style.colours(len(lines))[number]
        members.sort(key=lambda config: places[_key(config.fields[field])])
        x = np.array([places[_key(config.fields[field])] for config in members])
        intervals = [score_interval(config) for config in members]
        y = [interval.estimate for interval in intervals]
        axes.errorbar(
            x, y, error_bars(intervals), color=colour, ls=style.line_style(number), capsize=3
        )
        for at, config, mean in zip(x, members, y, strict=True):
            face = colour if config.complete else "white"
            axes.plot(at, mean, "o", color=colour, mfc=face)
            axes.plot(np.full(len(config.scores), at), config.scores, ".", color=colour, alpha=0.4)
        axes.plot([], [], color=colour, ls=style.line_style(number), label=label)
    axes.set_xlabel(field)
    axes.grid(alpha=0.3)
    if 1 < len(lines) <= _MAX_LEGEND:
        axes.legend(fontsize="small")


def error_bars(intervals: Sequence[Interval]) -> np.ndarray:
    """Distances from the estimates to the ends of the intervals, ``[2, n]``; 0 without an interval."""
    below = [0.0 if math.isnan(i.low) else i.estimate - i.low for i in intervals]
    above = [0.0 if math.isnan(i.high) else i.high - i.estimate for i in intervals]
    return np.array([below, above])


def _key(value: object) -> Hashable:
    return value if isinstance(value, Hashable) else repr(value)


def _place_values(axes: Axes, values: Sequence[object]) -> dict[Hashable, float]:
    """Set up the axis for the values of a field; returns the position of each."""
    distinct = list(dict.fromkeys(_key(value) for value in values))
    numbers = [v for v in distinct if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) == len(distinct):
        ordered = sorted(numbers)
        if ordered[0] > 0 and ordered[-1] / ordered[0] > _LOG_RANGE:
            style.plain_log_axis(axes, ordered)
        return {value: float(value) for value in ordered}
    style.name_ticks(axes, [str(value) for value in distinct])
    return {value: float(place) for place, value in enumerate(distinct)}
