"""``labs show``: show a run, finished or still running."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import pandas as pd
import tyro

from labs.analysis.answers import MAX_ROWS
from labs.analysis.load import LoadedRun, load_run
from labs.analysis.logs import last_lines
from labs.analysis.summary import shown_summary, summarise
from labs.runtime.directory.description import command_of
from labs.runtime.directory.mirror import is_remote
from labs.runtime.directory.runs import read_answers
from labs.runtime.loop.console import counted, duration, say, show_table
from labs.runtime.results import OVER, RUNNING

SHOWN_TRIALS = 20
"""Largest number of failed and of running trials that are listed."""

SHOWN_LOGS = 3
"""Number of failed trials with the last lines of their logs."""


@dataclass(frozen=True)
class Show:
    """Show a run, also while it is running: table, conclusions, failures, and how to continue."""

    run_: Annotated[tyro.conf.Positional[str], tyro.conf.arg(name="run", metavar="RUN")]
    """Directory of the run, or its URI on shared storage (s3://...)."""

    def run(self) -> int:
        """Print the run."""
        run = load_run(self.run_)
        running = run.is_written
        for line in head(run, running):
            say(line)
        metric = run.objective.metric
        if metric is not None and not run.history.empty:
            summary = summarise(run.table, metric, run.objective.mode)
            show_table(shown_summary(summary, metric).head(MAX_ROWS), intervals=(metric,))
        for line in (*read_answers(run.path), *_failures(run), *_unfinished(run, running)):
            say(line)
        for line in _next_commands(run, running, self.run_):
            say(line)
        return 0


def head(run: LoadedRun, running: bool) -> Iterator[str]:
    """The experiment, its progress, its command, code and versions."""
    described, table = run.description, run.table
    over = int(table["status"].isin(OVER).sum())
    state = RUNNING if running else "finished" if over == len(table) else "not finished"
    yield f"{described['experiment']} {run.path.name}: {state}, {over} of {len(table)} trials done"
    yield f"started {described['created']}: {described['command']}"
    for session in described.get("resumed", []):
        yield f"resumed {session['began']}: {session['command']}"
    code = {part: commit for part, commit in (described.get("git") or {}).items() if commit}
    commits = [f"{part} at {commit[:10]}{'-dirty' * commit.endswith('-dirty')}"
               for part, commit in code.items()]  # fmt: skip
    versions = [f"{name} {version}" for name, version in described["versions"].items()]
    yield ", ".join([*commits, *versions])


def _failures(run: LoadedRun) -> Iterator[str]:
    for place, row in enumerate(run.failed.head(SHOWN_TRIALS).itertuples()):
        yield f"failed: {row.name}: {row.error}"
        for line in last_lines(run.path, str(row.name)) if place < SHOWN_LOGS else ():
            yield f"    {line}"
    if len(run.failed) > SHOWN_TRIALS:
        yield f"and {len(run.failed) - SHOWN_TRIALS} more failed trials"


def _unfinished(run: LoadedRun, running: bool) -> Iterator[str]:
    """The trials of a running run that have reported; for another run, how many have not ended."""
    left = run.interrupted
    begun = left[left["step"].notna()] if "step" in left else left
    if running:
        for _, row in begun.head(SHOWN_TRIALS).iterrows():
            yield f"running: {row['name']}: step {_last_step(run, int(row['trial']))}"
        waiting = len(left) - len(begun)
        if waiting:
            yield f"{counted(waiting, 'trial')} {'is' if waiting == 1 else 'are'} waiting"
    elif len(left):
        have = "has" if len(left) == 1 else "have"
        yield f"{counted(len(left), 'trial')} {have} not ended, {len(begun)} of them have started"


def _last_step(run: LoadedRun, trial: int) -> str:
    reports = run.history[run.history["trial"] == trial]
    last = reports.iloc[-1]
    text = f"{int(last['step'])}, {duration(float(last['seconds']))} so far"
    metric = run.objective.metric
    if metric is not None and metric in reports and not pd.isna(last[metric]):
        text += f", {metric} {last[metric]:.4g}"
    return text


def _next_commands(run: LoadedRun, running: bool, place: str) -> Iterator[str]:
    described, where = run.description, place if is_remote(place) else str(run.path)
    if (run.path / "report.html").exists() and not is_remote(place):
        yield f"report: {run.path / 'report.html'}"
    if not is_remote(place):
        yield f"curves: {shlex.join(['tensorboard', '--logdir', str(run.path / 'tensorboard')])}"
    if not running and len(run.interrupted) + len(run.failed):
        yield f"run the rest with: {command_of(described, '--resume', where)}"
