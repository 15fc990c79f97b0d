"""The trials of a grid by config, since configs are compared over their seeds.

A config takes part in a comparison only if all its seeds ran to the end. To drop the seeds that a
scheduler stopped would keep the lucky ones: in a simulation of four equal configs whose lower half is
stopped, the means of the others are 0.6 standard deviations too high.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from labs.runtime.results import DONE, FAILED, STOPPED

SEED = "seed"
"""The field that differs between the repeats of a config."""


@dataclass(frozen=True)
class ConfigRuns:
    """All trials of one config."""

    label: str
    """The fields that vary within the grid: ``cnn depth=20``."""

    fields: Mapping[str, Any]
    """All fields except the seed."""

    trials: tuple[int, ...]
    """The trials' numbers, in the order of the table."""

    seeds: tuple[Any, ...]
    """Seeds of the trials that ran to the end, in the order of ``scores``."""

    scores: np.ndarray
    """float64 ``[n]``: the metric of the trials that ran to the end."""

    stopped: int
    """Number of trials that a scheduler stopped early."""

    failed: int
    """Number of trials that failed, or ended without the metric."""

    unfinished: int = 0
    """Number of trials that have not ended, which a resumed run would continue."""

    metric: str = ""
    """What the scores are."""

    @cached_property
    def key(self) -> str:
        """All fields except the seed as JSON, which stays the same when the grid grows."""
        return json.dumps(dict(self.fields), sort_keys=True, default=str)

    @property
    def complete(self) -> bool:
        """Whether every trial ran to the end, so that the config may be compared."""
        return not (self.stopped or self.failed or self.unfinished)


def config_fields(table: pd.DataFrame) -> list[str]:
    """The config's fields among a grid's columns: those between ``name`` and ``status``."""
    columns = list(table.columns)
    return columns[columns.index("name") + 1 : columns.index("status")]


def group_configs(
    table: pd.DataFrame, metric: str, fields: Sequence[str] | None = None
) -> list[ConfigRuns]:
    """The configs of a grid, in its order.

    Args:
        table: one row per trial, with ``trial``, the config's fields, ``status`` and ``metric``.
        metric: the metric to compare by.
        fields: the config's fields; ``None`` takes the columns between ``name`` and ``status``.
    """
    fields = [f for f in (config_fields(table) if fields is None else fields) if f != SEED]
    keys = [tuple(repr(value) for value in row) for row in table[fields].itertuples(index=False)]
    varying = [f for place, f in enumerate(fields) if len({key[place] for key in keys}) > 1]
    groups: dict[tuple[str, ...], list[int]] = {}
    for position, key in enumerate(keys):
        groups.setdefault(key, []).append(position)
    return [_config_runs(table.iloc[rows], metric, fields, varying) for rows in groups.values()]


def _config_runs(
    rows: pd.DataFrame, metric: str, fields: Sequence[str], varying: Sequence[str]
) -> ConfigRuns:
    values = {field: _plain(rows[field].iloc[0]) for field in fields}
    scores = rows[metric] if metric in rows else pd.Series(math.nan, rows.index)
    ended = (rows["status"] == DONE) & np.isfinite(scores.astype(float))
    stopped = int((rows["status"] == STOPPED).sum())
    unfinished = int((~rows["status"].isin([DONE, STOPPED, FAILED])).sum())
    return ConfigRuns(
        label=config_label({field: values[field] for field in varying}),
        fields=values,
        trials=tuple(int(trial) for trial in rows["trial"]),
        seeds=tuple(rows.loc[ended, SEED]) if SEED in rows else (),
        scores=scores[ended].to_numpy(dtype=float),
        stopped=stopped,
        failed=len(rows) - int(ended.sum()) - stopped - unfinished,
        unfinished=unfinished,
        metric=metric,
    )


def _plain(value: Any) -> Any:
    """A cell as a Python value; NaN, which pandas makes of None in a column of numbers, as None."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and math.isnan(value) else value


def complete_rows(table: pd.DataFrame, fields: Sequence[str]) -> pd.DataFrame:
    """The rows of the configs whose trials all ran to their end: those that may be compared.

    Args:
        table: one row per trial, with ``status``.
        fields: the config's fields; trials that agree in them differ only in their seed.
    """
    ended = (table["status"] == DONE).groupby([table[field] for field in fields]).transform("all")
    return table[ended.astype(bool)]


def config_label(fields: Mapping[str, Any]) -> str:
    """A label such as ``cnn depth=20 learning_rate=0.001``; strings appear without their field."""
    parts = [
        value if isinstance(value, str) and value else f"{name}={_short(value)}"
        for name, value in fields.items()
    ]
    return " ".join(parts) or "this config"


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def ranked(configs: Sequence[ConfigRuns], mode: str) -> list[ConfigRuns]:
    """The complete configs, the best mean first, then the others in their order."""
    sign = -1.0 if mode == "max" else 1.0
    complete = [config for config in configs if config.complete]
    complete.sort(key=lambda config: sign * float(config.scores.mean()))
    return complete + [config for config in configs if not config.complete]
