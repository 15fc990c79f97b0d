"""Which agent is better than which, and by how much, after the seeds."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from labs.analysis.decisions import ALPHA, planned_p_values
from labs.rl.comparison.summary import (
    _SEED,
    MIN_SEEDS,
    Scale,
    enough_seeds,
    environments,
    scores_of,
)
from labs.statistics import (
    Interval,
    difference_interval,
    probability_of_improvement,
    stratified_interval,
)


def pairs_table(runs: pd.DataFrame, scales: Mapping[str, Scale]) -> pd.DataFrame:
    """One row per environment (and all together) and pair of agents with three seeds or more.

    All rows together are one family of planned comparisons: with probability 95% or more no verdict
    of them is wrong (Welch's test under Holm's procedure, ``planned_p_values``). Of all environments
    together a run is a seed, with its mean score over the environments.

    Columns: ``env first second seeds``; ``difference`` of mean scores with ``difference_low`` and
    ``difference_high``, Welch's 95% interval of this row alone; ``p`` adjusted for all rows, NaN where
    the scores show no spread; ``verdict``; ``improvement``, the probability that a run of ``first``
    beats one of ``second``, with ``improvement_low`` and ``improvement_high`` (95%, stratified
    bootstrap, which is too narrow for so few runs and decides nothing).
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
    """An agent's scores ``[seeds]``, each the mean over the environments that all have the seed."""
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
    """A sentence per pair: better, worse, or the seeds cannot tell, and by how much.

    Then one on what the intervals are, and one that names what is not compared.
    """
    left_out = runs.loc[~runs["complete"], ["agent", "env"]].drop_duplicates()
    names = [f"{row.agent} in {row.env}" for row in left_out.itertuples()]
    missing = [f"Not compared, since not all of their runs ended: {', '.join(names)}."] * bool(
        names
    )
    if pairs.empty:
        plural = "s" * (seeds != 1)
        sentence = f"With {seeds} seed{plural} these are single runs, and no interval can be given"
        return [f"{sentence}: it takes {MIN_SEEDS} seeds or more.", *missing]
    sentences = []
    for (first, second), group in pairs.groupby(["first", "second"], sort=False):
        parts = [_part(row) for row in group.itertuples()]
        sentences.append(f"{first} against {second}: {'; '.join(parts)}.")
    kinds = (
        f"Verdicts: Welch's tests, adjusted together for all {len(pairs)} comparisons (Holm); intervals in"
        " these sentences: Welch's 95%, each for itself; in the table and figures: stratified bootstrap,"
        " which with few seeds is narrower than 95%."
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
