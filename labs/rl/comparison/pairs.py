"""Pairwise comparison of agents: which one is better, and by how much."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from labs.analysis.decisions import ALPHA, planned_p_values
from labs.bootstrap import probability_of_improvement, stratified_interval
from labs.rl.comparison.summary import (
    _SEED,
    MIN_SEEDS,
    Scale,
    enough_seeds,
    environments,
    scores_of,
)
from labs.statistics import Interval, difference_interval


def pairs_table(runs: pd.DataFrame, scales: Mapping[str, Scale]) -> pd.DataFrame:
    """One row per environment (and for all together) and pair of agents with three seeds or more.

    All rows are one family of planned comparisons: with a probability of at least 95% none of the
    verdicts is wrong (Welch's test with Holm's procedure, ``planned_p_values``). In the rows for all
    environments together, the score of a seed is its mean over the environments.

    Columns: ``env first second seeds``; ``difference`` of mean scores with ``difference_low`` and
    ``difference_high``, Welch's 95% interval for this row alone; ``p`` adjusted for all rows, NaN where
    the scores have no variance; ``verdict``; ``improvement``, the probability that a run of ``first``
    beats a run of ``second``, with ``improvement_low`` and ``improvement_high`` (95%, stratified
    bootstrap, which is too narrow for few runs and is not used for verdicts).
    """
    complete = runs[runs["complete"]]
    agents = list(dict.fromkeys(complete["agent"]))
    rows: list[dict[str, Any]] = []
    samples: list[tuple[np.ndarray, np.ndarray]] = []
    for name, envs in environments(complete, scales).items():
        for first, second in itertools.combinations(agents, 2):
            strata = [scores_of(complete, envs, agent) for agent in (first, second)]
            if not enough_seeds(*strata):
                continue
            both = [seed_scores(complete, envs, agent) for agent in (first, second)]
            samples.append((both[0], both[1]))
            difference = difference_interval(both[0], both[1])
            row = {"env": name, "first": first, "second": second, "seeds": difference.n}
            intervals = (
                ("difference", difference),
                ("improvement", _improvement(*strata)),
            )
            for column, interval in intervals:
                row[column] = interval.estimate
                row[f"{column}_low"], row[f"{column}_high"] = interval.low, interval.high
            rows.append(row)
    for row, p in zip(rows, planned_p_values(samples), strict=True):
        row["p"], row["verdict"] = p, _verdict(row["difference"], p)
    return pd.DataFrame(rows)


def seed_scores(runs: pd.DataFrame, envs: Sequence[str], agent: str) -> np.ndarray:
    """An agent's scores ``[seeds]``: the means over the environments, of seeds that ran in all of them."""
    mine = runs[(runs["agent"] == agent) & runs["env"].isin(envs)]
    grouped = mine.groupby("seed")["score"]
    return grouped.mean()[grouped.count() == len(envs)].to_numpy()


def _verdict(difference: float, p: float) -> str:
    if not p < ALPHA:
        return "the seeds cannot tell"
    return "better" if difference > 0 else "worse"


def _improvement(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> Interval:
    k = len(a)
    return stratified_interval(
        [*a, *b],
        lambda drawn: probability_of_improvement(drawn[:k], drawn[k:]),
        _SEED,
    )


def answers(pairs: pd.DataFrame, runs: pd.DataFrame, seeds: int) -> list[str]:
    """A sentence per pair: better, worse, or the seeds cannot tell, with the difference.

    Then one that says what the intervals are, and one that names what is not compared.
    """
    left_out = runs.loc[~runs["complete"], ["agent", "env"]].drop_duplicates()
    names = [f"{row.agent} in {row.env}" for row in left_out.itertuples()]
    missing = [f"Not compared, since some of their runs did not finish: {', '.join(names)}."]
    missing = missing if names else []
    if pairs.empty:
        plural = "s" * (seeds != 1)
        sentence = f"With {seeds} seed{plural} these are single runs, without intervals"
        return [f"{sentence}: these need {MIN_SEEDS} seeds or more.", *missing]
    sentences = []
    for (first, second), group in pairs.groupby(["first", "second"], sort=False):
        parts = [_part(row) for row in group.itertuples()]
        sentences.append(f"{first} against {second}: {'; '.join(parts)}.")
    kinds = (
        f"Verdicts are Welch's tests, adjusted together for all {len(pairs)} comparisons (Holm). Intervals"
        " in these sentences are Welch's 95%, each on its own; those in the table and the figures are"
        " stratified bootstrap intervals, which cover less than 95% with few seeds."
    )
    return [*sentences, kinds, *missing]


def _part(row: Any) -> str:
    interval = f" [{row.difference_low:+.3f}, {row.difference_high:+.3f}]"
    if math.isnan(row.difference_low):
        interval = ""
    p = "" if math.isnan(row.p) else f", p {'< 0.001' if row.p < 0.001 else f'{row.p:.3f}'}"
    return (
        f"{row.verdict} in {row.env} ({row.difference:+.3f}{interval} in mean score{p},"
        f" {row.seeds} seeds)"
    )
