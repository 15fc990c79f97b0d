"""Writing the reports of a run to TensorBoard and to a history file.

This is the only file that imports ``torch.utils.tensorboard``. The writers are in the driver, so a
cluster needs no shared disk for its curves.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import histogram, scalar, text
from torch.utils.tensorboard.summary import hparams as hparams_summaries

from labs.runtime.directory.events import EventFile, silence_writer_threads, write_single_event
from labs.runtime.directory.storage import write_atomically
from labs.runtime.machine.memory import MemoryUse
from labs.runtime.reports import Objective
from labs.runtime.results import OVER

Writer = SummaryWriter
"""TensorBoard's writer, for the annotations of other modules."""

HISTORY = "reports.jsonl"
STATE = "state.json"
BEST = "best/"
"""Prefix of the tags of the selected report of a trial, the one in ``results.csv``."""


class TrialLog:
    """One trial's TensorBoard directory, with its history beside the event file.

    Steps increase. A report that is already there (the same step of the same attempt) was sent twice
    and is skipped. Any other report whose step is not above the last one comes from a trial that went
    back to a checkpoint: it replaces everything from its step on, in the history and (by TensorBoard's
    purge) in the curves.

    If the disk is full, reports stay in memory until a later write succeeds, and :attr:`write_error`
    has the reason.
    """

    def __init__(
        self,
        directory: Path,
        hyperparameters: Mapping[str, Any],
        objective: Objective | None = None,
    ) -> None:
        self.directory = directory
        self.hyperparameters = {key: _plain(value) for key, value in hyperparameters.items()}
        self.objective = objective or Objective()
        self.history = read_history(directory)
        self.best_step: int | None = None
        """Step of the best report that has a checkpoint, as the trial reported it."""
        self.write_error: OSError | None = None
        self._unwritten: list[Mapping[str, Any]] = []
        self._end: dict[str, Any] | None = None
        self._purge_step: int | None = None
        self._events: EventFile | None = None
        self._described = False
        self._shown_best: int | None = None

    def add(self, reports: Sequence[Mapping[str, Any]], best_step: int | None = None) -> None:
        """Record reports.

        Args:
            reports: each with ``step``, ``seconds``, ``metrics``, and optionally ``attempt``,
                ``texts`` and ``histograms``.
            best_step: step of the trial's best report that has a checkpoint.
        """
        if best_step is not None:
            self.best_step = best_step
        new = [report for report in reports if not self._has(report)]
        if not new:
            return
        if self.history and new[0]["step"] <= self.history[-1]["step"]:
            self._rewind(new[0]["step"])
        kept = ("step", "seconds", "attempt", "metrics")
        self.history += [{key: r[key] for key in kept if key in r} for r in new]
        self._unwritten += new
        self.write()

    def _has(self, report: Mapping[str, Any]) -> bool:
        attempt = report.get("attempt")
        return attempt is not None and any(
            row["step"] == report["step"] and row.get("attempt") == attempt
            for row in itertools.takewhile(
                lambda row: row["step"] >= report["step"], reversed(self.history)
            )
        )

    def finish(
        self,
        status: str,
        error: str = "",
        best_step: int | None = None,
        memory: MemoryUse | None = None,
    ) -> None:
        """Record the end of the trial.

        Args:
            status: ``done``, ``stopped`` (by the scheduler), ``failed`` or ``interrupted``.
            error: why it failed.
            best_step: step of its best report that has a checkpoint.
            memory: the largest memory of its process.
        """
        self.best_step = best_step
        self._end = {"status": status, "error": error, "best_step": best_step}
        if memory is not None:
            self._end["memory"] = memory
        self.write()

    def write(self) -> None:
        """Write what is not written yet; an error of the disk goes to :attr:`write_error`."""
        try:
            if self._unwritten:
                self._write_reports()
            if self._end is not None:
                self._write_end(self._end)
            self.write_error = None
        except OSError as error:
            self.write_error = error
            self._shown_best = None
            self._begin_another_file()

    def _write_reports(self) -> None:
        events = self._open()
        with open(self.directory / HISTORY, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in self.history[-len(self._unwritten) :])
        for report in self._unwritten:
            for tag, value in report["metrics"].items():
                events.add(scalar(tag, value), report["step"])
            for tag, words in report.get("texts", {}).items():
                events.add(text(tag, words), report["step"])
            for tag, values in report.get("histograms", {}).items():
                events.add(histogram(tag, values, _bins()), report["step"])
        self._describe(events)
        self._write_best(events)
        events.flush()
        self._unwritten = []

    def _write_end(self, state: Mapping[str, Any]) -> None:
        events = self._open()
        self._describe(events)
        self._write_best(events)
        status_name = "STATUS_SUCCESS" if state["status"] in OVER else "STATUS_FAILURE"
        end = plugin_data_pb2.HParamsPluginData(
            version=0,
            session_end_info=plugin_data_pb2.SessionEndInfo(
                status=api_pb2.Status.Value(status_name)
            ),
        )
        summary = Summary()
        value = summary.value.add(tag="_hparams_/session_end_info")
        value.metadata.plugin_data.plugin_name = "hparams"
        value.metadata.plugin_data.content = end.SerializeToString()
        events.add(summary)
        events.flush()
        self.close()
        write_state(self.directory, state)

    def close(self) -> None:
        """Close the files; ``add`` opens them again."""
        if self._events is not None:
            self._events.close()
            self._events = None

    def _begin_another_file(self) -> None:
        """The next file of events replaces what this one has from the first unwritten report on."""
        with contextlib.suppress(OSError):
            self.close()
        self._events = None
        self._described = False
        if self._unwritten:
            self._purge_step = self._unwritten[0]["step"]

    def _open(self) -> EventFile:
        if self._events is None:
            # Rewrite the file: a line that a crash cut off must not be joined with the next one.
            written = self.history[: len(self.history) - len(self._unwritten)]
            content = "".join(json.dumps(row) + "\n" for row in written)
            write_atomically(self.directory / HISTORY, content.encode())
            self._events = EventFile(self.directory, self._purge_step)
            self._purge_step = None
        return self._events

    def _rewind(self, step: int) -> None:
        self.history = [row for row in self.history if row["step"] < step]
        self._unwritten = [report for report in self._unwritten if report["step"] < step]
        self._begin_another_file()
        if self._shown_best is not None and self._shown_best >= step:
            self._shown_best = None
        if not self._unwritten:
            self._purge_step = step

    def _describe(self, events: EventFile) -> None:
        """Write the hyperparameters, once."""
        if not self._described:
            events.add(hparams_summaries(self.hyperparameters, {})[1])
            self._described = True

    def _write_best(self, events: EventFile) -> None:
        """Write the selected report's metrics; the HPARAMS page shows the last value of each tag."""
        if self.objective.metric is None:
            return
        row = selected_report(self.history, self.objective, self.best_step)
        if row is None or row["step"] == self._shown_best:
            return
        self._shown_best = row["step"]
        events.add(scalar(f"{BEST}step", row["step"]), row["step"])
        for tag, value in row["metrics"].items():
            events.add(scalar(BEST + tag, value), row["step"])


class HparamsPage:
    """The columns of TensorBoard's HPARAMS page: what varies in the grid first, and the selected metric.

    TensorBoard takes them from one place: a file that is replaced when a grid has grown.

    Args:
        directory: any of TensorBoard's directories that is no trial's.
        configs: the fields of each trial's config.
        varying: names of the fields that differ.
        selected: the metric that selects, if there is one.
    """

    def __init__(
        self,
        directory: Path,
        configs: Sequence[Mapping[str, Any]],
        varying: Collection[str],
        selected: str | None,
    ) -> None:
        self._path = directory / "events.out.tfevents.0.columns"
        self._varying, self._selected = varying, selected
        values: dict[str, list[Any]] = {}
        for config in configs:
            for name in sorted(config, key=lambda name: name not in varying):
                values.setdefault(name, []).append(_plain(config[name]))
        mixed = {n for n, v in values.items() if len({isinstance(one, str) for one in v}) > 1}
        self._fields = {n: str(v[0]) if n in mixed else v[0] for n, v in values.items()}
        self._tags: dict[str, None] = {} if selected is None else {selected: None}
        self._written = 0

    def add(self, tags: Collection[str]) -> None:
        """Show these metrics, too. Where the disk is full, a later call writes the file."""
        self._tags.update(dict.fromkeys(tags))
        if len(self._tags) == self._written:
            return
        prefix = "" if self._selected is None else BEST
        summary = hparams_summaries(self._fields, {prefix + tag: 0.0 for tag in self._tags})[0]
        metadata = summary.value[0].metadata.plugin_data
        content = plugin_data_pb2.HParamsPluginData.FromString(metadata.content)
        for field in content.experiment.hparam_infos:
            field.differs = field.name in self._varying
        metadata.content = content.SerializeToString()
        with contextlib.suppress(OSError):
            write_single_event(self._path, summary)
            self._written = len(self._tags)


@functools.cache
def _bins() -> list[float]:
    """Limits of a histogram's bins, each a tenth above the one before, as TensorFlow has them."""
    limits = [1e-12]
    while limits[-1] < 1e20:
        limits.append(limits[-1] * 1.1)
    return [*(-limit for limit in reversed(limits[:-1])), 0.0, *limits[:-1]]


def selected_report(
    history: Sequence[dict[str, Any]], objective: Objective, best_step: int | None = None
) -> dict[str, Any] | None:
    """The report that represents a trial in tables.

    It is that of the best checkpoint; without one, the first report with the best value of the metric;
    without a metric, the last one.
    """
    if best_step is not None:
        found = next((report for report in reversed(history) if report["step"] == best_step), None)
        if found is not None:
            return found
    best: dict[str, Any] | None = None
    best_value: float | None = None
    for report in history:
        value = objective.value(report["metrics"])
        if value is not None and objective.is_better(value, best_value):
            best, best_value = report, value
    return best or (history[-1] if history else None)


def read_history(directory: Path) -> list[dict[str, Any]]:
    """The reports in a trial's directory; a last line that a crash cut off is dropped."""
    path = directory / HISTORY
    if not path.exists():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def write_state(directory: Path, state: Mapping[str, Any]) -> None:
    """Record how a trial ended (``status``, ``error``, ``best_step``, ``memory``)."""
    write_atomically(directory / STATE, json.dumps(dict(state)).encode())


def read_state(directory: Path) -> dict[str, Any]:
    """How a trial ended; an empty dict if it has not."""
    path = directory / STATE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def open_writer(directory: Path) -> SummaryWriter:
    """A TensorBoard writer for what belongs to the whole grid."""
    silence_writer_threads()
    return SummaryWriter(str(directory))


def add_animation(writer: SummaryWriter, tag: str, gif: bytes, step: int = 0) -> None:
    """Show an animated GIF on the images page."""
    with Image.open(io.BytesIO(gif)) as opened:
        width, height = opened.size
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif)
    summary = Summary(value=[Summary.Value(tag=tag, image=image)])
    writer._get_file_writer().add_summary(summary, step)  # SummaryWriter has no method for it


def _plain(value: Any) -> int | float | str:
    """A hyperparameter in one of TensorBoard's types."""
    if isinstance(value, bool):
        return str(value)  # TensorBoard would show a bool as 0.0000 or 1.0000
    if isinstance(value, (int, float, str)):
        return value
    return value.item() if isinstance(value, np.generic) else str(value)
