"""Figures of a comparison of agents, as in Agarwal et al. (2021); bands and intervals are 95%."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from labs.analysis import style
from labs.rl.comparison.summary import STEPS, Scale

COLOURS = {
    "labs-ppo": "#1f4e9c",
    "rllib-ppo": "#7fb2e5",
    "labs-dqn": "#b3471d",
    "rllib-dqn": "#f0a878",
}
"""One hue per algorithm; ours is the darker one."""
_DASHED = ("dqn",)
"""Algorithms whose lines are dashed, so that hues of equal darkness are told apart in grey."""
OTHER_COLOURS = ("#3f7d3a", "#7a3f8c", "#8c7a1f", "#1f8c80")
"""Colours of algorithms that users have registered."""
TITLES = {
    "eval/return_mean": "mean return",
    "eval/success_rate": "success rate",
}


def comparison_curves(curves: pd.DataFrame, scales: Mapping[str, Scale]) -> Figure:
    """A row of panels per environment, from ``curves_table``; a dotted line is the threshold."""
    panels = {
        str(env): list(group.groupby(["metric", "against"], sort=False))
        for env, group in curves.groupby("env", sort=False)
    }
    columns = max(len(row) for row in panels.values())
    figure = Figure(figsize=(4.6 * columns, 3.6 * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), columns, squeeze=False)
    for axes_row, (env, row) in zip(grid, panels.items(), strict=True):
        for axes in axes_row[len(row) :]:
            axes.axis("off")
        for axes, ((metric, against), group) in zip(axes_row[: len(row)], row, strict=True):
            _learning_panel(axes, group)
            if metric == scales[env].metric:
                axes.axhline(scales[env].threshold, color="grey", linestyle=":", linewidth=1)
            axes.set_xlabel("environment steps" if against == STEPS else "seconds of training")
            axes.set_xscale("linear" if against == STEPS else "log")
            axes.set_title(f"{env}: {TITLES[str(metric)]}", fontsize="medium")
            axes.grid(alpha=0.3)
    _legend(figure, grid[0, 0])
    if curves["low"].notna().any():
        style.explain(
            figure, "lines: interquartile means over the seeds; bands: 95% bootstrap intervals"
        )
    else:
        style.explain(figure, "a line per seed: too few for intervals")
    return figure


def _learning_panel(axes: Axes, curves: pd.DataFrame) -> None:
    for agent, group in curves.groupby("agent", sort=False):
        label: str | None = str(agent)
        for _, curve in group.groupby("seed", dropna=False):
            colour = _colour(str(agent))
            axes.plot(curve["at"], curve["value"], _line(str(agent)), color=colour, label=label)
            low, high = curve["low"].to_numpy(), curve["high"].to_numpy()
            style.draw_band(axes, curve["at"].to_numpy(), low, high, colour)
            label = None  # one entry in the legend for all seeds


def scores(summary: pd.DataFrame) -> Figure:
    """Interquartile mean scores with their intervals, per environment and for all together."""
    names = list(dict.fromkeys(summary["env"]))
    figure = Figure(figsize=(4.2 * len(names), 2.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        rows = summary[summary["env"] == name].iloc[::-1]
        for place, row in enumerate(rows.itertuples()):
            colour = _colour(row.agent)
            axes.barh(place, row.score_high - row.score_low, 0.6, row.score_low, color=colour)
            axes.plot([row.score] * 2, [place - 0.3, place + 0.3], color="black", linewidth=1.5)
        axes.use_sticky_edges = False  # otherwise the leftmost bar starts at the frame
        axes.set(xlabel="score: interquartile mean, 95% bootstrap interval")
        _label_rows(axes, name, list(rows["agent"]))
    return figure


def profiles(table: pd.DataFrame) -> Figure:
    """Performance profiles from ``profiles_table``, per environment and for all together."""
    names = list(dict.fromkeys(table["env"]))
    figure = Figure(figsize=(4.6 * len(names), 3.6), layout="constrained")
    grid = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(grid, names, strict=True):
        for agent, rows in table[table["env"] == name].groupby("agent", sort=False):
            x, colour = rows["threshold"].to_numpy(), _colour(agent)
            axes.step(x, rows["share"], _line(agent), where="post", color=colour, label=agent)
            low, high = rows["low"].to_numpy(), rows["high"].to_numpy()
            style.draw_band(axes, x, low, high, colour, step="post")
        axes.set(title=name, xlabel="score τ", ylabel="share of runs with a score above τ")
        axes.title.set_fontsize("medium")
        axes.grid(alpha=0.3)
    _legend(figure, grid[0])
    style.explain(figure, "bands: 95% bootstrap intervals")
    return figure


def improvements(pairs: pd.DataFrame) -> Figure:
    """Probability that a run of one agent beats a run of another, per environment and for all together."""
    names = list(dict.fromkeys(pairs["env"]))
    figure = Figure(figsize=(4.6 * len(names), 3.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        rows = pairs[pairs["env"] == name].iloc[::-1]
        for place, row in enumerate(rows.itertuples()):
            axes.plot([row.improvement_low, row.improvement_high], [place] * 2, color="#444")
            axes.plot(row.improvement, place, "o", color="#1f4e9c")
        axes.axvline(0.5, color="grey", linestyle=":", linewidth=1)
        axes.set(xlim=(-0.02, 1.02), xlabel="probability of improvement, 95% bootstrap interval")
        _label_rows(axes, name, [f"{row.first} > {row.second}" for row in rows.itertuples()])
    return figure


def _colour(agent: str) -> str:
    """The same colour for an agent in every figure."""
    return COLOURS.get(agent) or OTHER_COLOURS[zlib.crc32(agent.encode()) % len(OTHER_COLOURS)]


def _line(agent: str) -> str:
    return "--" if agent.endswith(_DASHED) else "-"


def _label_rows(axes: Axes, title: str, rows: Sequence[str]) -> None:
    """Title, labels and grid of a panel with one estimate per row."""
    axes.set_yticks(range(len(rows)), rows)
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.3, axis="x")


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
