"""Writing the reports of a run to TensorBoard and to a history file.

This is the only file that imports ``torch.utils.tensorboard``. The writers are in the driver, so a
cluster needs no shared disk for its curves.
"""

from __future__ import annotations

import contextlib
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
from torch.utils.tensorboard.summary import hparams as hparams_summaries

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

    ``varying`` names the hyperparameters in which the grid's trials differ.

    If the disk is full, reports stay in memory until a later write succeeds, and :attr:`write_error`
    has the reason.
    """

    def __init__(
        self,
        directory: Path,
        hyperparameters: Mapping[str, Any],
        objective: Objective | None = None,
        varying: Collection[str] = (),
    ) -> None:
        self.varying = varying
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
        self._writer: SummaryWriter | None = None
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
            self._forget_writer()

    def _write_reports(self) -> None:
        writer = self._open()
        with open(self.directory / HISTORY, "a") as file:
            file.writelines(json.dumps(row) + "\n" for row in self.history[-len(self._unwritten) :])
        for report in self._unwritten:
            for tag, value in report["metrics"].items():
                writer.add_scalar(tag, value, report["step"])
            for tag, text in report.get("texts", {}).items():
                writer.add_text(tag, text, report["step"])
            for tag, values in report.get("histograms", {}).items():
                writer.add_histogram(tag, values, report["step"])
        self._describe(writer)
        self._write_best(writer)
        writer.flush()
        self._unwritten = []

    def _write_end(self, state: Mapping[str, Any]) -> None:
        writer = self._open()
        self._describe(writer)
        self._write_best(writer)
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
        _events(writer).add_summary(summary)
        self.close()
        write_state(self.directory, state)

    def close(self) -> None:
        """Close the files; ``add`` opens them again."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _forget_writer(self) -> None:
        """Drop a writer, which after one error always fails; a new one replaces its unwritten part."""
        with contextlib.suppress(OSError):
            self.close()
        self._writer = None
        self._described = False
        if self._unwritten:
            self._purge_step = self._unwritten[0]["step"]

    def _open(self) -> SummaryWriter:
        if self._writer is None:
            # Rewrite the file: a line that a crash cut off must not be joined with the next one.
            written = self.history[: len(self.history) - len(self._unwritten)]
            content = "".join(json.dumps(row) + "\n" for row in written)
            write_atomically(self.directory / HISTORY, content.encode())
            self._writer = SummaryWriter(str(self.directory), purge_step=self._purge_step)
            self._purge_step = None
        return self._writer

    def _rewind(self, step: int) -> None:
        self.history = [row for row in self.history if row["step"] < step]
        self._unwritten = [report for report in self._unwritten if report["step"] < step]
        self._forget_writer()
        if self._shown_best is not None and self._shown_best >= step:
            self._shown_best = None
        if not self._unwritten:
            self._purge_step = step

    def _describe(self, writer: SummaryWriter) -> None:
        """Write the hyperparameters once, as soon as the metrics' names are known."""
        if self._described or not self.history:
            return
        metrics = self.history[-1]["metrics"]
        selected = self.objective.metric
        if selected is not None:
            if selected not in metrics and self._end is None:
                return  # wait for a report that has it
            metrics = {selected: 0.0, **metrics}
        tags = {tag if selected is None else BEST + tag: 0.0 for tag in metrics}
        experiment, session_start, _ = hparams_summaries(self.hyperparameters, tags)
        _mark_varying(experiment, self.varying)
        _events(writer).add_summary(experiment)
        _events(writer).add_summary(session_start)
        self._described = True

    def _write_best(self, writer: SummaryWriter) -> None:
        """Write the selected report's metrics; the HPARAMS page shows the last value of each tag."""
        if self.objective.metric is None:
            return
        row = selected_report(self.history, self.objective, self.best_step)
        if row is None or row["step"] == self._shown_best:
            return
        self._shown_best = row["step"]
        writer.add_scalar(f"{BEST}step", row["step"], row["step"])
        for tag, value in row["metrics"].items():
            writer.add_scalar(BEST + tag, value, row["step"])


def _mark_varying(summary: Summary, varying: Collection[str]) -> None:
    """Mark the hyperparameters that vary, which TensorBoard then shows first."""
    metadata = summary.value[0].metadata.plugin_data
    content = plugin_data_pb2.HParamsPluginData.FromString(metadata.content)
    for hyperparameter in content.experiment.hparam_infos:
        hyperparameter.differs = hyperparameter.name in varying
    metadata.content = content.SerializeToString()


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
    for line in path.read_text().splitlines():
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
    return json.loads(path.read_text()) if path.exists() else {}


def open_writer(directory: Path) -> SummaryWriter:
    """A TensorBoard writer for what belongs to the whole grid."""
    return SummaryWriter(str(directory))


def _events(writer: SummaryWriter) -> Any:
    """The file writer, for summaries that SummaryWriter has no method for."""
    return writer._get_file_writer()


def add_animation(writer: SummaryWriter, tag: str, gif: bytes, step: int = 0) -> None:
    """Show an animated GIF on the images page."""
    with Image.open(io.BytesIO(gif)) as image:
        width, height = image.size
    summary = Summary()
    summary.value.add(
        tag=tag,
        image=Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif),
    )
    _events(writer).add_summary(summary, step)


def _plain(value: Any) -> int | float | str:
    """A hyperparameter in one of TensorBoard's types."""
    if isinstance(value, bool):
        return str(value)  # TensorBoard would show a bool as 0.0000 or 1.0000
    if isinstance(value, (int, float, str)):
        return value
    return value.item() if isinstance(value, np.generic) else str(value)
