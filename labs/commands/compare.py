"""``labs compare``: compare several runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import tyro

from labs.analysis.answers import MAX_ROWS
from labs.analysis.comparison import compare_runs
from labs.analysis.load import load_run
from labs.analysis.summary import shown_summary, summarise
from labs.runtime.errors import InputError
from labs.runtime.loop.console import say, show_table
from labs.runtime.output.pictures import save, standard_style


@dataclass(frozen=True)
class Compare:
    """Compare runs: options that differ, the metric of each config with its interval, and a figure."""

    runs: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN RUN ...")]
    """Directories of runs, or their URIs on shared storage (s3://...)."""

    metric: Annotated[str | None, tyro.conf.arg(metavar="TAG")] = None
    """Metric to compare by. The default is the one that the runs select by."""

    mode: Annotated[Literal["max", "min"] | None, tyro.conf.arg(metavar="{max,min}")] = None
    """Which value of the metric is better. The default is that of the runs."""

    figure: Path = Path("comparison.png")
    """File of the figure; its extension sets the format."""

    def run(self) -> int:
        """Print the tables and sentences, and draw the figure."""
        comparison = compare_runs([load_run(run) for run in self.runs], self.metric, self.mode)
        options = comparison.options()
        if len(options):
            with pd.option_context("display.max_colwidth", 60):
                say(options.to_string(index=False))
        else:
            say("the runs have the same options, code and versions")
        say("")
        metric = comparison.metric
        summary = summarise(comparison.table, metric, comparison.mode)
        show_table(shown_summary(summary, metric).head(MAX_ROWS), intervals=(metric,))
        for sentence in comparison.sentences():
            say(sentence)
        try:
            with standard_style():
                save(comparison.figure(), self.figure)
        except (
            OSError,
            ValueError,
        ) as error:  # ValueError for a format that Matplotlib does not know
            raise InputError(f"`figure` {self.figure} cannot be written: {error}") from None
        say(f"figure: {self.figure}")
        return 0
