"""``report.html``: the results of a run in one file, without scripts and external files."""

from __future__ import annotations

import contextlib
import datetime
import functools
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from labs.analysis.comparison import Comparison, compare_runs
from labs.analysis.configs import group_configs, ranked
from labs.analysis.curves import learning_curves
from labs.analysis.load import LoadedRun, load_run
from labs.analysis.logs import last_lines
from labs.analysis.report.markup import drawn_html, figure_html, table_html, text_of
from labs.analysis.summary import shown_summary, summarise
from labs.runtime.directory import runs
from labs.runtime.directory.description import command_of
from labs.runtime.directory.mirror import is_remote
from labs.runtime.directory.runs import Run, read_answers
from labs.runtime.directory.storage import write_atomically
from labs.runtime.errors import InputError
from labs.runtime.loop.console import duration, say
from labs.runtime.options import RuntimeOptions
from labs.runtime.output.pictures import as_svg, standard_style
from labs.runtime.results import OVER

REPORT_FILE = "report.html"

MAX_FIGURES_BYTES = 1_800_000
"""Largest size of all figures of a run together."""

MAX_ROWS = 60
"""Largest number of rows of a table; longer tables are left out."""

MAX_TRIALS = 200
"""Largest number of trials in the list of all trials; results.csv has all."""

MAX_FAILURES = 20
"""Largest number of different errors, and of trials that are named with each."""


@dataclass(frozen=True)
class Figure:
    """A figure on the page."""

    name: str
    markup: str
    """HTML with all text escaped."""


@dataclass(frozen=True)
class Section:
    """The part of the page about one run."""

    run: LoadedRun
    place: str
    """The run's directory or URI for a command line."""

    number: int

    @property
    def title(self) -> str:
        """The names of the experiment and of the run."""
        return f"{self.run.description['experiment']} {self.run.path.name}"

    @property
    def question(self) -> str:
        """The question of the experiment: the first paragraph of its program's docstring."""
        return str(self.run.description.get("about") or "")

    @property
    def state(self) -> str:
        """The progress of the run, in one sentence."""
        table = self.run.table
        counts = table["status"].value_counts()
        by_status = ", ".join(f"{count} {status}" for status, count in counts.items())
        trials = f"{len(table)} trial{'s' * (len(table) != 1)}"
        if not len(table):
            return "No trials."
        over = bool(table["status"].isin(OVER).all())
        return f"{trials}: {by_status}." + ("" if over else " The run is not complete.")

    @functools.cached_property
    def answers(self) -> list[str]:
        """The conclusions of the run."""
        return read_answers(self.run.path)

    @functools.cached_property
    def tables(self) -> list[tuple[str, str]]:
        """Title and HTML of the run's tables; if it has no summary yet, one is computed."""
        metric = self.run.objective.metric
        found = []
        names = sorted(
            (path for path in self.run.path.glob("*.csv") if path.name != "results.csv"),
            key=lambda path: (path.stem != "summary", path.stat().st_mtime),
        )
        if (self.run.path / "summary.csv") not in names and metric is not None:
            summary = summarise(self.run.table, metric, self.run.objective.mode)
            shown = shown_summary(summary, metric)
            found.append((f"{metric} by config", table_html(shown.head(MAX_ROWS))))
        for path in names:
            with contextlib.suppress(ValueError):  # an empty file
                table = pd.read_csv(path, keep_default_na=False, na_values=[""])
                if len(table) <= MAX_ROWS:
                    found.append((path.name, table_html(_with_metric(table, metric))))
        return found

    @functools.cached_property
    def figures(self) -> tuple[list[Figure], list[str]]:
        """The run's figures, curves first, and the names of those that are too large."""
        paths = sorted(
            (self.run.path / "figures").glob("*.*"),
            key=lambda path: ("curves" not in path.stem, path.stat().st_mtime, path.stem),
        )
        names = list(dict.fromkeys(path.stem for path in paths))
        shown, left, room = [], [], MAX_FIGURES_BYTES
        if not names:
            shown = self._own_curves()
        for place, name in enumerate(names):
            files = {p.suffix: p for p in paths if p.stem == name}
            markup = figure_html(files, name, f"r{self.number}f{place}")
            if markup is None or len(markup) > room:
                left.append(name)
                continue
            room -= len(markup)
            shown.append(Figure(name, markup))
        return shown, left

    def _own_curves(self) -> list[Figure]:
        """Curves of a run that has no figures yet."""
        metric, history = self.run.objective.metric, self.run.history
        if metric is None or metric not in history:
            return []
        configs = ranked(group_configs(self.run.table, metric), self.run.objective.mode)
        drawn = learning_curves(history, configs, {metric: metric})
        return [Figure("curves", drawn_html(as_svg(drawn), "curves", f"r{self.number}c"))]

    @functools.cached_property
    def failures(self) -> list[dict[str, Any]]:
        """Names, error and last lines of the failed trials, grouped by error."""
        by_error: dict[str, list[str]] = {}
        for row in self.run.failed.to_dict("records"):
            by_error.setdefault(str(row["error"]), []).append(str(row["name"]))
        return [
            {
                "names": names[:MAX_FAILURES],
                "more": max(0, len(names) - MAX_FAILURES),
                "error": error,
                "lines": "\n".join(last_lines(self.run.path, names[0])),
            }
            for error, names in list(by_error.items())[:MAX_FAILURES]
        ]

    @functools.cached_property
    def trials(self) -> str:
        """The table of all trials as HTML."""
        table = self.run.table.drop(columns=["trial", "checkpoint"], errors="ignore")
        constant = [c for c in table if c not in ("name", "status") and _is_constant(table[c])]
        if len(table) > 1:
            table = table.drop(columns=constant)
        return table_html(table.head(MAX_TRIALS))

    @property
    def options(self) -> list[tuple[str, str]]:
        """The experiment's options and their values."""
        described = self.run.description
        rows = [(name, text_of(value)) for name, value in described["config"].items()]
        runtime = described.get("runtime") or {}
        default = {f: getattr(RuntimeOptions(), f) for f in RuntimeOptions.__dataclass_fields__}
        rows += [(n, text_of(v)) for n, v in runtime.items() if v != default.get(n)]
        return rows

    @property
    def origin(self) -> list[tuple[str, str]]:
        """When and by which command the run was started, and with which code and versions."""
        described = self.run.description
        rows = [("started", described["created"]), ("command", described["command"])]
        for session in described.get("resumed", []):
            rows.append((f"resumed {session['began']}", session["command"]))
        git = described.get("git") or {}
        rows += [(f"commit of {part}", commit) for part, commit in git.items() if commit]
        rows += [(name, version) for name, version in described["versions"].items()]
        seconds = self.run.table.get("seconds")
        if seconds is not None and seconds.notna().any():
            rows.append(("training", f"{duration(float(seconds.sum()))} over all trials"))
        rows.append(("directory", self.place))
        return rows

    @property
    def commands(self) -> list[tuple[str, str]]:
        """What can be done with the run, each with its command."""
        described, place = self.run.description, self.place
        found = []
        if described["config"].keys() != {"trials"}:  # made by labs.sweep, it has no options
            found.append(("repeat it as a new run", shlex.join(["labs", "rerun", place])))
            unfinished = len(self.run.failed) + len(self.run.interrupted)
            if unfinished:
                found.append(("run the rest", command_of(described, "--resume", place)))
            if "seeds" in described["config"]:
                more = str(_seeds(self.run.table) + 2)
                command = command_of(described, "--resume", place, "--seeds", more)
                found.append(("add more seeds", command))
        logdir = self.run.path / "tensorboard"
        if not is_remote(place):
            found.append(("show all curves", shlex.join(["tensorboard", "--logdir", str(logdir)])))
        found.append(("load it in Python", f"run = labs.load_run({place!r})"))
        return found


def _seeds(table: pd.DataFrame) -> int:
    return int(table["seed"].nunique()) if "seed" in table else 1


def _is_constant(column: pd.Series[Any]) -> bool:
    return len({repr(value) for value in column}) == 1


def _with_metric(table: pd.DataFrame, metric: str | None) -> pd.DataFrame:
    """The table of ``write_answers`` with its mean named after the metric; other tables unchanged."""
    if metric is None or not {"config", "mean", "low", "high", "n"} <= set(table):
        return table
    return shown_summary(table, metric)


def render(loaded: Sequence[LoadedRun], places: Sequence[str]) -> str:
    """The page for one or several runs; several start with their comparison, if it is possible.

    Args:
        loaded: the runs.
        places: the runs' directories or URIs for command lines.
    """
    sections = [
        Section(run, place, number)
        for number, (run, place) in enumerate(zip(loaded, places, strict=True))
    ]
    comparison, note = None, ""
    if len(loaded) > 1:
        try:
            comparison = compare_runs(loaded)
        except InputError as error:
            note = f"Not compared: {error}."
    title = sections[0].title if len(sections) == 1 else f"{len(sections)} runs"
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("labs.analysis.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(REPORT_FILE).render(
        title=title,
        sections=sections,
        comparison=None if comparison is None else _compared(comparison),
        note=note,
        made=datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
    )


def _compared(comparison: Comparison) -> dict[str, Any]:
    summary = summarise(comparison.table, comparison.metric, comparison.mode)
    return {
        "answers": comparison.sentences(),
        "options": table_html(comparison.options()),
        "table": table_html(shown_summary(summary, comparison.metric).head(MAX_ROWS)),
        "figure": drawn_html(as_svg(comparison.figure()), "comparison", "both"),
    }


def write_report(places: Sequence[str | Path], file: Path) -> None:
    """Write the report of one run or of several.

    Args:
        places: the runs' directories, or their URIs on shared storage.
        file: the file to write.

    Raises:
        InputError: a place is not a run.
        OSError: the file cannot be written.
    """
    loaded = [load_run(place) for place in places]
    names = [
        str(place) if is_remote(str(place)) else str(run.path)
        for place, run in zip(places, loaded, strict=True)
    ]
    with standard_style():
        write_atomically(file, render(loaded, names).encode())


@contextlib.contextmanager
def open_run(experiment: str, config: Any, options: RuntimeOptions) -> Iterator[Run]:
    """A run of ``experiment``: new, or the one that ``--resume`` names. At its end it writes ``report.html``.

    Args:
        experiment: name of the directory below ``--run-root``.
        config: the experiment's dataclass, written to ``config.json``.
        options: where and how it runs.

    Raises:
        InputError: ``--resume`` does not name a run of this experiment, or another driver is writing
            that run.
    """
    with runs.open_run(experiment, config, options) as run:
        try:
            yield run
        finally:
            _write_own_report(run)


def _write_own_report(run: Run) -> None:
    """Write the report however the run ends. If that fails, the run still ends as it would."""
    if not run.started or run.lease.taken_by is not None:
        return
    try:
        write_report([run.path], run.path / REPORT_FILE)
        say(f"report: {run.path / REPORT_FILE}")
    except Exception as error:
        say(f"note: {run.path / REPORT_FILE} could not be written: {type(error).__name__}: {error}")
