"""Tables over seeds: one row per config, the best one first."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from labs.analysis.configs import ConfigRuns, config_fields, group_configs, ranked
from labs.statistics import Interval, mean_interval, value_range

COLUMNS = ("config", "mean", "low", "high", "n", "stopped", "failed", "unfinished")


def summarise(
    table: pd.DataFrame, metric: str, mode: str, fields: Sequence[str] | None = None
) -> pd.DataFrame:
    """One row per config, the best mean over the seeds first; configs that are not compared last.

    Args:
        table: one row per trial, with ``trial``, the config's fields, ``status`` and ``metric``.
        metric: tag to compare by.
        mode: ``max`` or ``min``: which value is better.
        fields: the config's fields; ``None`` takes the columns between ``name`` and ``status``.

    Returns:
        ``config`` (the fields that vary, as one string) and each of these fields; ``mean`` over the
        seeds that ran to the end with its 95% interval ``low`` and ``high`` (Student's t), their
        number ``n``, ``stopped``, ``failed`` and ``unfinished``. A config with such seeds has no
        interval, because the other seeds are a biased sample.
    """
    fields = config_fields(table) if fields is None else fields
    configs = group_configs(table, metric, fields)
    varying = varying_fields(configs)
    return pd.DataFrame(
        [_row(config, varying) for config in ranked(configs, mode)],
        columns=[COLUMNS[0], *varying, *COLUMNS[1:]],
    )


def varying_fields(configs: Sequence[ConfigRuns]) -> list[str]:
    """The fields in which the configs differ."""
    if not configs:
        return []
    first = configs[0].fields
    return [name for name in first if any(c.fields[name] != first[name] for c in configs)]


def score_interval(config: ConfigRuns) -> Interval:
    """The mean of a config's scores with its interval; no interval if the config is not complete.

    The interval of a share ends at 0 and 1 (``labs.statistics.value_range``).
    """
    if not config.scores.size:
        return Interval(math.nan, math.nan, math.nan, 0)
    interval = mean_interval(config.scores).within(*value_range(config.metric, config.scores))
    if config.complete:
        return interval
    return Interval(interval.estimate, math.nan, math.nan, interval.n)


def shown_summary(summary: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A summary for ``show_table``: the mean is named after the metric; fields are in ``config`` only.

    ``unfinished`` is left out where every trial has ended, and in runs from before that column.
    """
    columns = [name for name in COLUMNS if name in summary]
    if "unfinished" in columns and not summary["unfinished"].any():
        columns.remove("unfinished")
    names = {"mean": metric, "low": f"{metric}_low", "high": f"{metric}_high"}
    return summary[columns].rename(columns=names)


def _row(config: ConfigRuns, varying: Sequence[str]) -> dict[str, object]:
    interval = score_interval(config)
    return {
        "config": config.label,
        **{name: config.fields[name] for name in varying},
        "mean": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "n": interval.n,
        "stopped": config.stopped,
        "failed": config.failed,
        "unfinished": config.unfinished,
    }
