"""What a grid left behind, and the questions that everybody asks of it. Knows neither Ray nor Tune."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from labs.runtime.errors import InputError
from labs.runtime.reports import Objective

DONE = "done"
"""The trial ran to its end."""
STOPPED = "stopped"
"""A scheduler stopped the trial early: it is over, and takes no part in comparisons."""
FAILED = "failed"
"""The trial raised an error or its process died, more often than ``max_failures`` allows."""
INTERRUPTED = "interrupted"
"""The run ended before the trial did; ``--resume`` goes on with it."""

OVER = (DONE, STOPPED)
"""Statuses of trials that a resumed run leaves alone."""


def finished(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a results table whose trials ran to their end: what may be compared."""
    return _with_status(table, DONE)


def best_row(table: pd.DataFrame, metric: str, mode: str) -> pd.Series | None:
    """The row with the best value of ``metric`` among all of ``table``; None where none has one."""
    if metric not in table or table[metric].isna().all():
        return None
    values = table[metric].to_numpy(dtype=float)
    return table.iloc[int(np.nanargmax(values) if mode == "max" else np.nanargmin(values))]


def _with_status(table: pd.DataFrame, status: str) -> pd.DataFrame:
    return table[table["status"] == status]


@dataclass(frozen=True)
class GridResult:
    """What a grid left behind, in grid order.

    Attributes:
        table: one row per trial, failed ones included: ``trial`` (its number), ``name``, the
            config's fields, ``status`` (done, stopped, failed, interrupted), ``error``, ``step``
            of the selected report and its metrics, ``seconds`` of the whole trial, ``peak_gib`` and
            ``peak_gpu_gib`` (the most memory that its process has held on the host and, by PyTorch, on
            its GPU), ``checkpoint``.
        history: one row per report: ``trial``, ``step``, ``seconds`` and the metrics. Without any
            report it is empty, and has these three columns.
        objective: what was selected by.
    """

    table: pd.DataFrame
    history: pd.DataFrame
    objective: Objective = field(default_factory=Objective)

    @property
    def finished(self) -> pd.DataFrame:
        """Rows of the trials that ran to their end: what may be compared."""
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
        """Rows of the trials that a resumed run has still to end."""
        return _with_status(self.table, INTERRUPTED)

    @property
    def exit_status(self) -> int:
        """0 where every trial is done or was stopped by the scheduler, else 1."""
        return 0 if self.table["status"].isin(OVER).all() else 1

    def best(self, metric: str | None = None, mode: str | None = None) -> pd.Series | None:
        """The row of the best trial among those that ran to their end; None where there is none.

        Args:
            metric: tag to compare by. The default is the objective's.
            mode: ``max`` or ``min``. The default is the objective's.

        Raises:
            InputError: neither the call nor the objective names a metric.
        """
        metric = metric or self.objective.metric
        if metric is None:
            raise InputError("nothing says which `metric` is the best one's: name one")
        return best_row(self.finished, metric, mode or self.objective.mode)

    def checkpoint(self, trial: int) -> str | None:
        """The best checkpoint of a trial (the last one where no metric selects); None without."""
        return self.table["checkpoint"].iloc[trial]
