"""The results of a grid and the statuses of its trials. Does not depend on Ray."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from labs.runtime.errors import InputError
from labs.runtime.reports import Objective

DONE = "done"
"""The trial ran to its end."""
STOPPED = "stopped"
"""A scheduler stopped the trial early. It is over, and takes no part in comparisons."""
FAILED = "failed"
"""The trial raised an error or its process died, more often than ``max_failures`` allows."""
INTERRUPTED = "interrupted"
"""The run ended before the trial did; ``--resume`` continues it."""
RUNNING = "running"
"""In a ``results.csv`` that is written while the run goes on: the trial has not ended yet."""

OVER = (DONE, STOPPED)
"""Statuses of trials that a resumed run does not run again."""


def finished(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a results table whose trials ran to their end: those that may be compared."""
    return _with_status(table, DONE)


def best_row(table: pd.DataFrame, metric: str, mode: str) -> pd.Series | None:
    """The row of ``table`` with the best value of ``metric``; None if no row has a value."""
    if metric not in table or table[metric].isna().all():
        return None
    values = table[metric].to_numpy(dtype=float)
    return table.iloc[int(np.nanargmax(values) if mode == "max" else np.nanargmin(values))]


def _with_status(table: pd.DataFrame, status: str) -> pd.DataFrame:
    return table[table["status"] == status]


@dataclass(frozen=True)
class GridResult:
    """The results of a grid, in grid order.

    Attributes:
        table: one row per trial, failed ones included: ``trial`` (its number), ``name``, the
            config's fields, ``status`` (done, stopped, failed, interrupted), ``error``, ``step``
            of the selected report and its metrics, ``seconds`` of the whole trial, ``peak_gib`` and
            ``peak_gpu_gib`` (the largest memory of its process on the host and, by PyTorch, on its
            GPU), ``checkpoint``.
        history: one row per report: ``trial``, ``step``, ``seconds`` and the metrics. Without reports
            it is empty and has these three columns.
        objective: the metric that selects, and its mode.
    """

    table: pd.DataFrame
    history: pd.DataFrame
    objective: Objective = field(default_factory=Objective)

    @property
    def finished(self) -> pd.DataFrame:
        """Rows of the trials that ran to their end: those that may be compared."""
        return finished(self.table)

    @property
    def stopped(self) -> pd.DataFrame:
        """Rows of the trials that the scheduler stopped early."""
        return _with_status(self.table, STOPPED)

    @property
    def failed(self) -> pd.DataFrame:
        """Rows of the trials that failed, with their ``error``."""
        return _with_status(self.table, FAILED)

    @property
    def interrupted(self) -> pd.DataFrame:
        """Rows of the trials that a resumed run would continue."""
        return _with_status(self.table, INTERRUPTED)

    @property
    def exit_status(self) -> int:
        """0 if every trial is done or was stopped by the scheduler, otherwise 1."""
        return 0 if self.table["status"].isin(OVER).all() else 1

    def best(self, metric: str | None = None, mode: str | None = None) -> pd.Series | None:
        """The row of the best trial among those that ran to their end; None if there is none.

        Args:
            metric: tag to compare by. The default is that of the objective.
            mode: ``max`` or ``min``. The default is that of the objective.

        Raises:
            InputError: neither the call nor the objective names a metric.
        """
        metric = metric or self.objective.metric
        if metric is None:
            raise InputError(
                "the best trial needs a `metric`, and the objective has none: name one"
            )
        return best_row(self.finished, metric, mode or self.objective.mode)

    def checkpoint(self, trial: int) -> str | None:
        """The best checkpoint of a trial (the last one without a metric); None if it has none."""
        return self.table["checkpoint"].iloc[trial]
