"""Ratios, figures and sentences of the gradient flow experiment."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from labs.analysis import style
from labs.analysis.configs import complete_rows
from labs.runtime.results import DONE
from labs.statistics import Interval, geometric_band, geometric_interval
from labs.vision.models import FAMILY_TITLES
from labs.vision.style import depth_shades, family_colour

_WINDOW = 10  # batches, of the running mean and of the profile at the start
_LAYER = "layers/conv_"


def trial_gradients(history: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The mean gradients of every trial, of the networks whose seeds all ran to the end.

    Columns: ``family depth seed when``, and ``classifier conv_first conv_last``, the means of the
    gradient of the classifier, of the first and of the last convolution. ``when`` names the batches
    that they are means over: ``first 10 batches`` (the network is close to its initialisation),
    ``last 10 batches`` (after training) and ``all 150 batches``. Of fewer than 20 batches the halves
    take the place of the tens.

    Args:
        history: one row per report of ``record_gradients``, with ``trial`` and ``step``.
        table: one row per trial, with ``trial``, ``status`` and the config's fields.
    """
    finished = complete_rows(table, ("family", "depth"))
    batches = 0 if history.empty else int(history["step"].max())
    window = max(1, min(_WINDOW, batches // 2))
    step = history["step"]
    parts = {
        f"first {window} batches": history[step <= window],
        f"last {window} batches": history[step > batches - window],
        f"all {batches} batches": history,
    }
    means = {when: part.groupby("trial").mean(numeric_only=True) for when, part in parts.items()}
    rows = []
    for trial in finished.to_dict("records"):
        for when in parts:
            gradients = means[when].loc[trial["trial"]]
            rows.append(
                {
                    "family": trial["family"],
                    "depth": trial["depth"],
                    "seed": trial["seed"],
                    "when": when,
                    "classifier": gradients["gradients/classifier"],
                    "conv_first": gradients["gradients/conv_first"],
                    "conv_last": gradients[f"{_LAYER}{trial['depth']:03d}"],
                }
            )
    columns = ["family", "depth", "seed", "when", "classifier", "conv_first", "conv_last"]
    return pd.DataFrame(rows, columns=columns)


def ratios(gradients: pd.DataFrame) -> pd.DataFrame:
    """One row per depth, part of the training and ratio: ``depth when ratio seeds mean low high``.

    ``classifier, residual / plain`` pairs the networks of one seed; ``first / last convolution`` is
    within each network. Ratios multiply, so the mean is geometric and the 95% interval over seeds
    is Student's t of the logarithms (NaN for one seed).

    Args:
        gradients: of ``trial_gradients``.
    """
    rows = []
    for (depth, when), group in gradients.groupby(["depth", "when"], sort=False):
        by_family = {str(name): part.set_index("seed") for name, part in group.groupby("family")}
        values = {}
        if {"cnn", "rescnn"} <= by_family.keys():
            quotient = by_family["rescnn"]["classifier"] / by_family["cnn"]["classifier"]
            values["classifier, residual / plain"] = quotient.dropna()
        for family, trials in by_family.items():
            name = f"{FAMILY_TITLES[family]}, first / last convolution"
            values[name] = trials["conv_first"] / trials["conv_last"]
        for name, quotients in values.items():
            if len(quotients):
                interval = geometric_interval(quotients.to_numpy())
                numbers = {"mean": interval.estimate, "low": interval.low, "high": interval.high}
                place = {"depth": depth, "when": when, "ratio": name}
                rows.append(place | {"seeds": interval.n} | numbers)
    columns = ["depth", "when", "ratio", "seeds", "mean", "low", "high"]
    return pd.DataFrame(rows, columns=columns).sort_values(
        "depth", kind="stable", ignore_index=True
    )


def findings(table: pd.DataFrame) -> list[str]:
    """What was measured at each depth in the first and in the last batches, a sentence for each.

    Beside each number stands what is usually expected.

    Args:
        table: of ``ratios``.
    """
    sentences = []
    for (depth, when), group in table.groupby(["depth", "when"], sort=False):
        if str(when).startswith("all "):  # in the table, for whoever wants it
            continue
        by_ratio = {
            row["ratio"]: Interval(row["mean"], row["low"], row["high"], row["seeds"])
            for row in group.to_dict("records")
        }
        parts = []
        for family in ("cnn", "rescnn"):
            ratio = by_ratio.get(f"{FAMILY_TITLES[family]}, first / last convolution")
            if ratio is not None:
                parts.append(
                    f"in the {FAMILY_TITLES[family]} the first convolution gets"
                    f" {_times(ratio)} the gradient of the last ({_trend(ratio)})"
                )
        ratio = by_ratio.get("classifier, residual / plain")
        if ratio is not None:
            parts.append(
                f"the ResCNN's classifier gets {_times(ratio)} the gradient of the CNN's"
                f" ({_comparison(ratio)})"
            )
        sentences.append(f"{depth} convolutions, {when}: {'; '.join(parts)}.")
    return sentences


def classifier_figure(history: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """The classifier's gradient over batches, all networks: one hue per family, darker is deeper.

    Thin lines are geometric means over seeds, thick ones their running means over ten batches.
    """
    trials = table[table["status"] == DONE][["trial", "family", "depth"]]
    points = history.merge(trials, on="trial")
    figure = Figure(figsize=(8, 4.6), layout="constrained")
    panel = figure.subplots()
    for family in ("cnn", "rescnn"):
        chosen = points[points["family"] == family]
        for depth, colour in depth_shades(family, chosen["depth"]).items():
            values = chosen[chosen["depth"] == depth].set_index("step")["gradients/classifier"]
            means = np.log(values.where(values > 0)).groupby("step").mean().map(np.exp)
            panel.plot(means.index, means, color=colour, lw=0.6, alpha=0.35)
            smooth = means.rolling(_WINDOW, min_periods=1).mean()
            label = f"{FAMILY_TITLES[family]}, depth {depth}"
            panel.plot(smooth.index, smooth, color=colour, lw=2, label=label)
    panel.set(yscale="log", xlabel="batch", ylabel="mean |gradient| of the classifier's weights")
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small", ncols=2)
    means = (
        f"thin: geometric means over the seeds; thick: their running means over {_WINDOW} batches"
    )
    style.explain(figure, means)
    return figure


def layer_figure(history: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Gradient against layer position, a panel per depth, plain beside residual.

    Dashed: mean over the first ten batches; solid: over the last ten. Bands are 95% intervals of the
    geometric mean over the seeds.
    """
    trials = table[table["status"] == DONE]
    depths = sorted(trials["depth"].unique())
    figure = Figure(figsize=(3.6 * max(2, len(depths)), 4), layout="constrained")
    axes = figure.subplots(1, len(depths), sharey=True, squeeze=False)[0]
    for panel, depth in zip(axes, depths, strict=True):
        for family in ("cnn", "rescnn"):
            chosen = trials[(trials["depth"] == depth) & (trials["family"] == family)]["trial"]
            if len(chosen):
                _draw_layers(panel, history[history["trial"].isin(chosen)], family, depth)
        panel.set(yscale="log", title=f"{depth} convolutions", xlabel="convolution, from the input")
        panel.grid(alpha=0.3)
    axes[0].set_ylabel("mean |gradient| of the weights")
    families = [name for name in ("cnn", "rescnn") if name in set(trials["family"])]
    handles = [
        Line2D([], [], color=family_colour(name), lw=2, label=FAMILY_TITLES[name])
        for name in families
    ]
    handles += [
        Line2D([], [], color="0.3", ls="--", label=f"first {_WINDOW} batches"),
        Line2D([], [], color="0.3", ls="-", label=f"last {_WINDOW} batches"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    style.explain(figure, "lines: geometric means over the seeds; bands: their 95% intervals")
    return figure


def _draw_layers(panel: Axes, reports: pd.DataFrame, family: str, depth: int) -> None:
    places = np.arange(1, depth + 1)
    columns = [f"{_LAYER}{place:03d}" for place in places]
    colour = family_colour(family)
    step = reports["step"]
    ends = (("--", step <= _WINDOW), ("-", step > step.max() - _WINDOW))
    for line, part in ((line, reports[inside]) for line, inside in ends):
        by_seed = part.groupby("trial")[columns].mean().to_numpy()
        mean, low, high = geometric_band(np.where(by_seed > 0, by_seed, math.nan))  # 0: a gap
        panel.plot(places, mean, line, color=colour, lw=1.8)
        style.draw_band(panel, places, low, high, colour)


def _times(ratio: Interval) -> str:
    ends = f" [{_number(ratio.low)}, {_number(ratio.high)}]"
    return f"{_number(ratio.estimate)} times{'' if math.isnan(ratio.low) else ends}"


def _number(value: float) -> str:
    if value < 0.01:
        return f"{value:.1g}"  # a gradient that vanishes would read 0.00
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def _trend(ratio: Interval) -> str:
    if math.isnan(ratio.low):
        return _no_interval(ratio)
    if ratio.high < 1:
        return "it shrinks towards the input, as vanishing gradients do"
    if ratio.low > 1:
        return "it grows towards the input: no vanishing"
    return "no clear trend: no vanishing shown"


def _comparison(ratio: Interval) -> str:
    if math.isnan(ratio.low):
        return _no_interval(ratio)
    if ratio.low > 1:
        return "larger, as expected"
    if ratio.high < 1:
        return "smaller, against the expectation"
    return "these runs cannot tell them apart"


def _no_interval(ratio: Interval) -> str:
    return f"{'one seed' if ratio.n == 1 else 'no spread over the seeds'}, no interval"
