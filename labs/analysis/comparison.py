"""Comparison of several runs: how their options differ, and which is better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from labs.analysis import style
from labs.analysis.configs import ConfigRuns, config_fields, group_configs, ranked
from labs.analysis.decisions import ALPHA, Decision, decide, planned_p_values
from labs.analysis.figures import error_bars
from labs.analysis.load import LoadedRun
from labs.analysis.summary import score_interval
from labs.analysis.verdicts import best_sentences, not_compared
from labs.runtime.errors import InputError
from labs.statistics import difference_interval

RUN = "run"
"""The column with the run that a trial belongs to."""

MAX_BARS = 40
"""Number of configs in the figure."""


@dataclass(frozen=True)
class Comparison:
    """Two runs or more.

    Attributes:
        runs: the runs, in the order in which they were given.
        metric: the metric to compare by.
        mode: ``max`` or ``min``: which value is better.

    Raises:
        InputError: there is only one run, or the metric is not in all of them.
    """

    runs: Sequence[LoadedRun]
    metric: str
    mode: str

    def __post_init__(self) -> None:
        for run in self.runs:
            if self.metric not in run.table:
                tags = ", ".join(tag for tag in map(str, run.table) if "/" in tag) or "no metric"
                raise InputError(f"`metric` {self.metric} is not in {run.path}, which has {tags}")

    @cached_property
    def names(self) -> list[str]:
        """A name for each run: that of its directory, and more if two are the same."""
        names = [run.path.name for run in self.runs]
        if len(set(names)) < len(names):
            names = [f"{run.description['experiment']}/{run.path.name}" for run in self.runs]
        if len(set(names)) < len(names):
            names = [f"{number}:{name}" for number, name in enumerate(names, 1)]
        return names

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per trial of all runs, as in a grid's table; ``run`` is one of its fields."""
        fields = [f for run in self.runs for f in config_fields(run.table)]
        rows: list[dict[str, Any]] = []
        for name, run in zip(self.names, self.runs, strict=True):
            for row in run.table.to_dict("records"):
                config = {field: row.get(field) for field in fields}
                first = {"trial": len(rows), "name": f"{name}/{row['name']}", RUN: name, **config}
                rows.append(first | {"status": row["status"], self.metric: row.get(self.metric)})
        return pd.DataFrame(rows, dtype=object)

    @cached_property
    def configs(self) -> list[ConfigRuns]:
        """The configs of all runs, run by run."""
        return group_configs(self.table, self.metric)

    def options(self) -> pd.DataFrame:
        """The options, versions and commits that differ: a row for each, with a column per run."""
        settings = [_settings(run.description) for run in self.runs]
        names = list(dict.fromkeys(name for values in settings for name in values))
        rows = []
        for name in names:
            values = [values.get(name, "") for values in settings]
            if len(set(values)) > 1:
                rows.append({"what": name, **dict(zip(self.names, values, strict=True))})
        return pd.DataFrame(rows, columns=["what", *self.names])

    def sentences(self) -> list[str]:
        """Conclusions: config by config if all runs have the same configs, else which one is best."""
        if self._same_configs:
            return [*self._between_runs(), *not_compared(self.configs)]
        decision: Decision = decide(self.configs, self.mode)
        return [*best_sentences(decision, self.metric), *not_compared(self.configs)]

    def figure(self) -> Figure:
        """The mean of each config with its 95% interval and its seeds, a colour per run, best first."""
        shown = ranked(self.configs, self.mode)[:MAX_BARS]
        figure = Figure(figsize=(8, 1.4 + 0.32 * len(shown)), layout="constrained")
        axes = figure.subplots()
        colours = dict(zip(self.names, style.colours(len(self.names)), strict=True))
        for place, config in enumerate(shown):
            interval = score_interval(config)
            colour = colours[config.fields[RUN]]
            axes.errorbar(
                [interval.estimate],
                [place],
                xerr=error_bars([interval]),
                fmt="o",
                color=colour,
                mfc=colour if config.complete else "white",
                capsize=3,
            )
            axes.plot(
                config.scores, np.full(len(config.scores), place), ".", color=colour, alpha=0.4
            )
        axes.set_yticks(range(len(shown)), [config.label for config in shown])
        axes.invert_yaxis()
        axes.set_xlabel(
            f"{self.metric} (mean, 95% interval; dots: seeds; hollow: some seeds did not finish)"
        )
        axes.grid(alpha=0.3)
        return figure

    @property
    def _same_configs(self) -> bool:
        found = [set(self._by_config(name)) for name in self.names]
        return all(configs == found[0] for configs in found)

    def _by_config(self, run: str) -> dict[str, ConfigRuns]:
        """A run's configs by their fields without the run's name."""
        return {
            repr({name: value for name, value in config.fields.items() if name != RUN}): config
            for config in self.configs
            if config.fields[RUN] == run
        }

    def _between_runs(self) -> list[str]:
        first, *others = (self._by_config(name) for name in self.names)
        pairs = [
            (mine, other[key]) for other in others for key, mine in first.items()
            if mine.complete and other[key].complete
        ]  # fmt: skip
        if not pairs:
            return []
        equal = [a for a, b in pairs if _scores(a) == _scores(b)]
        if len(equal) == len(pairs):
            return [f"The runs have the same {self.metric} for every config and seed."]
        p_values = planned_p_values([(a.scores, b.scores) for a, b in pairs])
        sentences, unknown = [], 0
        for (mine, other), p in zip(pairs, p_values, strict=True):
            if not p < ALPHA:
                unknown += 1
                continue
            change = difference_interval(other.scores, mine.scores)
            better = (change.estimate > 0) == (self.mode == "max")
            sentences.append(
                f"{other.label} is {'better' if better else 'worse'} than {mine.label}:"
                f" {self.metric} {change.estimate:+.4g} (95% interval {change.low:+.4g} to"
                f" {change.high:+.4g})."
            )
        if unknown:
            what = "pair of configs" if unknown == 1 else "pairs of configs"
            sentences.append(f"No significant difference between the runs for {unknown} {what}.")
        return sentences


def _scores(config: ConfigRuns) -> dict[Any, float]:
    seeds = config.seeds or tuple(range(len(config.scores)))
    return dict(zip(seeds, config.scores.tolist(), strict=True))


def _settings(described: Mapping[str, Any]) -> dict[str, str]:
    """A run's experiment, options, versions and commits, each as text."""
    found = {"experiment": str(described["experiment"])}
    found |= {name: _text(value) for name, value in described["config"].items()}
    found |= {f"version of {name}": value for name, value in described["versions"].items()}
    git = described.get("git") or {}
    return found | {f"code of {part}": (commit or "")[:46] for part, commit in git.items()}


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(_text(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def compare_runs(
    runs: Sequence[LoadedRun], metric: str | None = None, mode: str | None = None
) -> Comparison:
    """Compare runs by ``metric``, by default that of the first run that has one.

    Raises:
        InputError: fewer than two runs, there is no metric, or not all runs have it.
    """
    if len(runs) < 2:
        raise InputError("a comparison needs two runs or more: name their directories")
    objective = next((run.objective for run in runs if run.objective.metric is not None), None)
    metric = metric or (None if objective is None else objective.metric)
    if metric is None:
        raise InputError("a comparison needs a `metric`, and the runs have none: name one")
    return Comparison(runs, metric, mode or ("max" if objective is None else objective.mode))
