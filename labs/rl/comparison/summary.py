"""Results of a comparison of agents, as recommended by Agarwal et al. (2021, arXiv:2108.13264).

Scores at the end of each run, and their interquartile means with stratified bootstrap intervals over
the seeds. No checkpoint is selected: the agent at the end of the budget counts.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from labs.analysis.configs import complete_rows
from labs.bootstrap import (
    interquartile_mean,
    performance_profile,
    stratified_band,
    stratified_interval,
)
from labs.rl.envs.registry import find_spec
from labs.rl.envs.settings import EnvSettings, as_settings
from labs.rl.evaluation import RandomPolicy, episode_metrics, evaluate, reports_success
from labs.runtime.results import finished
from labs.statistics import Interval

MIN_SEEDS = 3
"""With fewer runs no interval is computed."""
SUCCESS_THRESHOLD = 0.9
"""Success rate from which an environment that reports success counts as solved."""
ALL = "all environments"
STEPS, SECONDS = "step", "time/training_seconds"
"""The x axes of learning curves."""
_SEED = 0
_POINTS = 200
_RESAMPLES = 500


class Scale(NamedTuple):
    """How the runs in one environment are scored."""

    metric: str
    """``eval/success_rate`` if the environment reports success, else ``eval/return_mean``."""
    zero: float
    """Value of the metric with score 0: no success, or the mean return of uniformly random actions."""
    one: float
    """Value of the metric with score 1: success every time, or gymnasium's reward threshold. NaN if
    there is neither; scores in this environment are then not comparable with those in others."""
    threshold: float
    """Value of the metric from which the environment counts as solved; NaN if there is none."""

    def score(self, values: np.ndarray) -> np.ndarray:
        """The scores of values of the metric; the values themselves if ``one`` is NaN."""
        if math.isnan(self.one):
            return np.asarray(values, dtype=float)
        return (np.asarray(values, dtype=float) - self.zero) / (self.one - self.zero)


def find_scale(env: str | EnvSettings, episodes: int, seed: int) -> Scale:
    """The scale from ``episodes`` episodes of random actions and from gymnasium's registry.

    Raises:
        InputError: as for ``make_env``, or the actions are continuous.
    """
    found = evaluate(RandomPolicy(env, seed), env, episodes, seed).episodes
    if reports_success(found):
        return Scale("eval/success_rate", 0.0, 1.0, SUCCESS_THRESHOLD)
    settings = as_settings(env)
    threshold = find_spec(settings.env_id).reward_threshold
    # With other arguments or wrappers the rewards may differ, and the threshold has no meaning.
    plain = not (settings.env_kwargs or settings.wrapper)
    one = float(threshold) if threshold is not None and plain else math.nan
    return Scale("eval/return_mean", episode_metrics(found)["return_mean"], one, one)


def runs_table(
    table: pd.DataFrame, history: pd.DataFrame, scales: Mapping[str, Scale]
) -> pd.DataFrame:
    """One row per run that finished, with its metrics at the end.

    Args:
        table: a grid's, with ``trial library algorithm env seed status``.
        history: a grid's, with the metrics of every report.
        scales: by environment.

    Returns:
        Columns ``trial env agent seed complete score return success_rate steps seconds
        steps_per_second steps_to_threshold seconds_to_threshold``. ``complete`` tells whether all
        seeds of the run's agent finished in its environment: if some did not, the others are a biased
        sample, and are not compared. ``seconds`` are those of collecting and learning; the last two
        are NaN if no evaluation of the run reached the threshold.
    """
    rows = []
    complete = set(complete_rows(table, ["library", "algorithm", "env"])["trial"])
    for trial in finished(table).itertuples():
        reports = history[history["trial"] == trial.trial]
        scale = scales[str(trial.env)]
        last = reports.iloc[-1]
        solved = reports[reports[scale.metric] >= scale.threshold]
        rows.append(
            {
                "trial": trial.trial,
                "env": trial.env,
                "agent": f"{trial.library}-{trial.algorithm}",
                "seed": trial.seed,
                "complete": trial.trial in complete,
                "score": float(scale.score(last[scale.metric])),
                "return": last["eval/return_mean"],
                "success_rate": last.get("eval/success_rate", math.nan),
                "steps": last["step"],
                "seconds": last["time/training_seconds"],
                "steps_per_second": last["step"] / last["time/training_seconds"],
                "steps_to_threshold": solved["step"].min(),
                "seconds_to_threshold": solved["time/training_seconds"].min(),
            }
        )
    return pd.DataFrame(rows)


def environments(runs: pd.DataFrame, scales: Mapping[str, Scale]) -> dict[str, list[str]]:
    """The groups of environments by name: each one, and all together if their scores are comparable."""
    names = list(dict.fromkeys(runs["env"]))
    comparable = len(names) > 1 and not any(math.isnan(scales[name].one) for name in names)
    return {name: [name] for name in names} | ({ALL: names} if comparable else {})


def scores_of(runs: pd.DataFrame, envs: Sequence[str], agent: str) -> list[np.ndarray]:
    """Scores of an agent's runs, an array per environment: the strata of the bootstrap."""
    mine = runs[runs["agent"] == agent]
    return [mine.loc[mine["env"] == env, "score"].to_numpy() for env in envs]


def enough_seeds(*strata: Sequence[np.ndarray]) -> bool:
    """Whether each of the strata has enough runs for an interval."""
    return all(len(runs) >= MIN_SEEDS for runs in itertools.chain(*strata))


def mean_score(strata: Sequence[np.ndarray]) -> float:
    """The interquartile mean of all runs in all environments."""
    return float(interquartile_mean(np.concatenate(strata)))


def summarise(runs: pd.DataFrame, scales: Mapping[str, Scale]) -> pd.DataFrame:
    """One row per environment (and for all together) and agent.

    Columns: ``env agent seeds``, ``score`` (interquartile mean) with ``score_low`` and
    ``score_high`` (95%, stratified bootstrap; NaN below three seeds), ``return success_rate``
    (interquartile means), ``steps_per_second seconds`` (means), ``solved`` (how many runs reached
    the threshold), ``steps_to_threshold seconds_to_threshold`` (medians over all runs; NaN if at
    least half of them did not reach it).
    """
    rows = []
    for name, envs in environments(runs, scales).items():
        for agent in dict.fromkeys(runs["agent"]):
            group = runs[(runs["agent"] == agent) & runs["env"].isin(envs)]
            strata = scores_of(runs, envs, agent)
            if any(len(scores) == 0 for scores in strata):
                continue
            interval = (
                stratified_interval(strata, mean_score, _SEED)
                if enough_seeds(strata)
                else Interval(mean_score(strata), math.nan, math.nan, 1)
            )
            row = {"env": name, "agent": agent}
            row["seeds"] = min(len(scores) for scores in strata)
            row |= {
                "score": interval.estimate,
                "score_low": interval.low,
                "score_high": interval.high,
            }
            if len(envs) == 1:
                row["return"] = float(interquartile_mean(group["return"]))
                row["success_rate"] = float(interquartile_mean(group["success_rate"]))
                row["steps_per_second"] = group["steps_per_second"].mean()
                row["seconds"] = group["seconds"].mean()
                row["solved"] = int(group["steps_to_threshold"].notna().sum())
                for column in ("steps_to_threshold", "seconds_to_threshold"):
                    median = group[column].fillna(math.inf).median()
                    row[column] = median if math.isfinite(median) else math.nan
            rows.append(row)
    return pd.DataFrame(rows)


def curves_table(
    runs: pd.DataFrame, history: pd.DataFrame, scales: Mapping[str, Scale]
) -> pd.DataFrame:
    """Learning curves: return and success against steps, the scored metric against seconds.

    A curve is the interquartile mean over the seeds, with its pointwise 95% band. With too few seeds
    for that, every run has its own curve. Between two evaluations the value of the earlier one is
    used. Against seconds, a curve ends where the first of its runs ends.

    Returns:
        Columns ``env metric against agent seed at value low high``; ``seed`` is NaN for a mean,
        ``low`` and ``high`` are NaN for a single run.
    """
    parts = []
    for (env, agent), group in runs.groupby(["env", "agent"], sort=False):
        scored = scales[str(env)].metric
        metrics = dict.fromkeys(["eval/return_mean", scored])
        panels = [*((metric, STEPS) for metric in metrics), (scored, SECONDS)]
        for metric, against in panels:
            reports = history.dropna(subset=[metric])
            points = [
                reports.loc[reports["trial"] == trial, [against, metric]].to_numpy()
                for trial in group["trial"]
            ]
            for curve in _curves(points, list(group["seed"]), against):
                labels = {"env": env, "metric": metric, "against": against}
                parts.append(pd.DataFrame({**labels, "agent": agent, **curve}))
    return pd.concat(parts, ignore_index=True)


def _curves(
    points: Sequence[np.ndarray], seeds: Sequence[int], against: str
) -> list[dict[str, np.ndarray | float]]:
    """One curve of all runs (``[evaluations, 2]`` each), or one per run if there are too few."""
    if len(points) < MIN_SEEDS:
        names = ("at", "value")
        return [
            {
                "seed": seed,
                **dict(zip(names, run.T, strict=True)),
                "low": math.nan,
                "high": math.nan,
            }
            for seed, run in zip(seeds, points, strict=True)
        ]
    start = max(run[0, 0] for run in points)
    ends = [run[-1, 0] for run in points]
    # All runs have the same budget of steps, up to a last segment, so a run that ends a little
    # earlier keeps its last value. They do not take the same time.
    at = np.linspace(start, max(ends) if against == STEPS else min(ends), _POINTS)
    held = np.stack(
        [run[(np.searchsorted(run[:, 0], at, "right") - 1).clip(0), 1] for run in points]
    )
    value, low, high = stratified_band(
        [held], lambda drawn: interquartile_mean(drawn[0]), _SEED, _RESAMPLES
    )
    return [{"seed": math.nan, "at": at, "value": value, "low": low, "high": high}]


def profiles_table(runs: pd.DataFrame, scales: Mapping[str, Scale]) -> pd.DataFrame:
    """Share of runs with a score above each threshold, with its 95% band.

    Columns: ``env agent threshold share low high``, for agents with enough seeds.
    """
    parts = []
    for name, envs in environments(runs, scales).items():
        scores = runs.loc[runs["env"].isin(envs), "score"]
        thresholds = np.linspace(min(0.0, scores.min()), max(1.0, scores.max()), _POINTS)
        for agent in dict.fromkeys(runs["agent"]):
            strata = scores_of(runs, envs, agent)
            if enough_seeds(strata):
                band = _profile(strata, thresholds)
                parts.append(pd.DataFrame({"env": name, "agent": agent, **band}))
    return pd.concat(parts, ignore_index=True)


def _profile(strata: Sequence[np.ndarray], thresholds: np.ndarray) -> dict[str, np.ndarray]:
    share, low, high = stratified_band(
        strata, lambda drawn: performance_profile(drawn, thresholds), _SEED, _RESAMPLES
    )
    return {"threshold": thresholds, "share": share, "low": low, "high": high}
