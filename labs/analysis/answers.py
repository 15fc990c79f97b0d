"""The results of a run for a reader: a table of its configs, figures, and conclusions."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labs.analysis.configs import ConfigRuns, group_configs, ranked
from labs.analysis.curves import learning_curves
from labs.analysis.decisions import Decision, Look, look
from labs.analysis.figures import field_panels
from labs.analysis.summary import shown_summary, summarise
from labs.analysis.verdicts import sentences
from labs.runtime.directory.runs import Run
from labs.runtime.directory.storage import write_atomically
from labs.runtime.loop.console import show_table
from labs.runtime.results import GridResult

LOOKS_FILE = "looks.json"
"""The looks at a run's results, which together spend 5%."""

MAX_PANELS = 4
"""Number of metrics that are drawn, the selected one first."""

MAX_ROWS = 40
"""Number of configs shown in the terminal; summary.csv has all."""


def write_answers(
    result: GridResult,
    run: Run,
    *,
    default: Mapping[str, Any] | None = None,
    planned: int | None = None,
) -> Decision | None:
    """Write ``summary.csv``, figures and conclusions to the run's directory and TensorBoard.

    Args:
        result: the results of the grid.
        run: the run that they belong to.
        default: values of the fields of the default config, with which the others are compared.
        planned: the largest number of seeds per config, if seeds are added until it is decided.

    Returns:
        The decision; None without a metric.
    """
    metric, mode = result.objective.metric, result.objective.mode
    if metric is None:
        return None
    configs = group_configs(result.table, metric)
    decision = take_look(run, configs, mode, default=default, planned=planned)
    summary = summarise(result.table, metric, mode)
    run.add_table("summary", summary)
    show_table(shown_summary(summary, metric).head(MAX_ROWS), intervals=(metric,))
    _add_figures(result, run, ranked(configs, mode), metric)
    run.answer("answers", sentences(configs, decision, metric))
    return decision


def take_look(
    run: Run,
    configs: Sequence[ConfigRuns],
    mode: str,
    *,
    default: Mapping[str, Any] | None = None,
    planned: int | None = None,
) -> Decision:
    """Look at a run's results, and record the look in its ``looks.json``.

    Args:
        run: the run.
        configs: the result of ``group_configs``.
        mode: ``max`` or ``min``: which value is better.
        default, planned: as for ``write_answers``.
    """
    decision, looks = look(read_looks(run.path), configs, mode, planned=planned, default=default)
    content = json.dumps([dataclasses.asdict(past) for past in looks], indent=2)
    run.start()
    write_atomically(run.path / LOOKS_FILE, f"{content}\n".encode())
    return decision


def read_looks(directory: Path) -> list[Look]:
    """The looks that are recorded in a run's directory, oldest first."""
    path = directory / LOOKS_FILE
    return (
        [Look.from_json(one) for one in json.loads(path.read_text(encoding="utf-8"))]
        if path.exists()
        else []
    )


def _add_figures(result: GridResult, run: Run, configs: Sequence[ConfigRuns], metric: str) -> None:
    if result.history.empty:
        return
    others = [tag for tag in result.history.columns if "/" in tag and tag != metric]
    panels = {tag: tag for tag in [metric, *others][:MAX_PANELS]}
    run.add_figure("curves", learning_curves(result.history, configs, panels))
    by_field = field_panels(configs, metric)
    if by_field is not None:
        run.add_figure("fields", by_field)
