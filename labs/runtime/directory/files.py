"""Reading the results of a grid from its files, at any time. Does not depend on Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from labs.runtime.directory.identity import RESERVED
from labs.runtime.directory.storage import StoragePath
from labs.runtime.directory.tracking import read_history, read_state, selected_report
from labs.runtime.reports import Objective
from labs.runtime.results import INTERRUPTED, GridResult


@dataclass(frozen=True)
class GridFiles:
    """The files of a grid's trials.

    Attributes:
        names: names of the trials, in the order of their numbers.
        configs: fields of each trial's config.
        path: the run's directory.
        checkpoints: the directory of checkpoints, which all machines can reach.
        objective: the metric that selects, and its mode.
    """

    names: Sequence[str]
    configs: Sequence[Mapping[str, Any]]
    path: Path
    checkpoints: StoragePath
    objective: Objective

    def directory(self, index: int) -> Path:
        """The directory of the driver's record of a trial."""
        return self.path / "tensorboard" / self.names[index]

    def result(self) -> GridResult:
        """The table and the history of all trials, as they are on disk now."""
        rows, history = [], []
        for index in range(len(self.names)):
            reports = read_history(self.directory(index))
            rows.append(self.row(index, reports))
            for report in reports:
                times = {"trial": index, "step": report["step"], "seconds": report["seconds"]}
                history.append(times | report["metrics"])
        columns = None if history else ["trial", "step", "seconds"]
        table_columns = None if rows else list(RESERVED)
        return GridResult(
            pd.DataFrame(rows, columns=table_columns),
            pd.DataFrame(history, columns=columns),
            self.objective,
        )

    def row(
        self, index: int, reports: Sequence[dict[str, Any]], state: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """A trial's row of the table.

        Args:
            index: the trial's number.
            reports: all its reports.
            state: how it ended; None reads it from disk.
        """
        state = read_state(self.directory(index)) if state is None else state
        fields = dict.fromkeys(name for config in self.configs for name in config)
        row = {"trial": index, "name": self.names[index], **fields, **self.configs[index]}
        row |= {"status": state.get("status", INTERRUPTED), "error": state.get("error", "")}
        selected = selected_report(reports, self.objective, state.get("best_step"))
        row["step"] = selected["step"] if selected else None
        row["seconds"] = reports[-1]["seconds"] if reports else None
        memory = state.get("memory") or {}
        row["peak_gib"], row["peak_gpu_gib"] = memory.get("host"), memory.get("gpu")
        row |= selected["metrics"] if selected else {}
        row["checkpoint"] = self._checkpoint(self.names[index])
        return row

    def _checkpoint(self, name: str) -> str | None:
        for file in ("best.pt", "last.pt"):
            path = self.checkpoints / name / file
            if path.local is None or path.local.exists():
                return str(path)
        return None
