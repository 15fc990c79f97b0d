"""What a grid of agents came to."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

PANELS = {
    "eval/success_rate": "evaluation: success rate",
    "eval/return_mean": "evaluation: mean return",
    "rollout/return_mean": "training: mean return",
    "rollout/length_mean": "training: mean length",
}


def learning_curves(history: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Returns, lengths and success over environment steps, a line per trial.

    Args:
        history: one row per report: ``trial``, ``step`` and the metrics; panels of metrics that it
            lacks are left out.
        table: one row per trial: ``trial``, ``name``.
    """
    tags = [tag for tag in PANELS if tag in history and history[tag].notna().any()]
    figure = Figure(figsize=(5.5 * len(tags), 4), layout="constrained")
    names = table.set_index("trial")["name"]
    for axes, tag in zip(figure.subplots(1, len(tags), squeeze=False)[0], tags, strict=True):
        for trial, points in history.groupby("trial"):
            points = points.dropna(subset=[tag])  # not every report evaluates
            axes.plot(points["step"], points[tag], label=names[trial])
        axes.set(xlabel="environment steps", title=PANELS[tag])
        axes.grid(alpha=0.3)
        if len(names) > 1:
            axes.legend(fontsize="small")
    return figure


def best_trial(table: pd.DataFrame, select: str) -> int | None:
    """The number of the trial with the highest metric; None where none got so far."""
    if select not in table or table[select].isna().all():
        return None
    return int(table.loc[table[select].idxmax(), "trial"])
