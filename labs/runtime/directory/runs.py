"""Run directories: the results of a run, and what is needed to run it again."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import shlex
import signal
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from labs.runtime.directory import tracking
from labs.runtime.directory.description import (
    CONFIG_FILE,
    describe_run,
    extended,
    read_description,
    recorded_trials,
    resume_command,
    version_changes,
)
from labs.runtime.directory.identity import (
    TrialRecord,
    difference_of_grids,
    fingerprint,
    match_trials,
)
from labs.runtime.directory.lease import Lease, remove_empty, reserve_directory
from labs.runtime.directory.mirror import Mirror, fetch_run, is_remote, write_session
from labs.runtime.directory.storage import (
    StoragePath,
    is_full,
    reason,
    short_name,
    write_atomically,
)
from labs.runtime.errors import InputError
from labs.runtime.loop.console import say
from labs.runtime.machine.commits import code_changes
from labs.runtime.options import RuntimeOptions, expand_user
from labs.runtime.output.pictures import as_png, as_svg, standard_style
from labs.runtime.reports import Objective

ANSWERS_FILE = "answers.txt"
"""The conclusions of a run, one sentence per line."""


class Run:
    """A run's directory. Nothing is written before ``start`` or the first result.

    Attributes:
        path: absolute path of the run's directory.
        options: where and how it runs.
        storage: the run's directory for all machines: on an object store, or ``path`` itself.
        checkpoints: the directory of the trials' checkpoints, inside ``storage``.
        trials: the trials of its grid, in the order of their numbers.
        objective: the metric that its grid is optimised for; None until ``run_grid`` sets it.
    """

    def __init__(self, experiment: str, config: Any, options: RuntimeOptions) -> None:
        self.experiment = experiment
        self.config = config
        self.options = options
        self.resumed = options.resume is not None
        root = StoragePath(options.run_root)
        self._made: list[Path] = []
        if options.resume is not None:
            self.path = expand_user(options.resume).resolve()
        else:
            self._made = reserve_directory(options.run_root, experiment, options.run_name)
            self.path = self._made[0]
        if root.local is None:
            self.storage = root / experiment / self.path.name
        else:
            self.storage = StoragePath(self.path, shared=root.shared)
        self.checkpoints = self.storage / "checkpoints"
        self.lease = Lease(self.storage, on_lost=_stop_this_run)
        self._mirror = Mirror(self.path, self.storage) if self.storage.local is None else None
        self._described: dict[str, Any] | None = None
        self.trials: list[TrialRecord] = []
        self.repeats: list[TrialRecord] = []
        """The trials of the run that this one repeats."""
        self._data: dict[str, str] = {}
        self.objective: Objective | None = None
        self._started = self._claimed = False
        self._answers: dict[str, list[str]] = {}

    def claim(self) -> None:
        """Become the only driver that writes the run, until ``release``, and read a resumed run.

        Raises:
            InputError: another driver writes it, or the storage cannot be reached.
        """
        try:
            self.lease.acquire()
        except OSError as error:
            raise InputError(f"{self.storage} cannot be written: {reason(error)}") from None
        self._claimed = True
        self.lease.start_renewing()
        if self._mirror is not None:
            write_session(self.path, self.lease.number)
            self._mirror.start()
        if self.resumed:
            # Only now, since another driver may have changed it until the lease was ours.
            self._described = read_description(self.path)
            self.trials = recorded_trials(self._described)
            self._data = self._described["data"]

    def release(self) -> None:
        """Close the files and let other drivers write the run."""
        try:
            if "writer" in vars(self):
                self.writer.close()
            # What was refused has only an old copy of what another driver writes.
            if self._mirror is not None and self._claimed and self.lease.taken_by is None:
                self._mirror.close()
        finally:
            self.lease.release()
            remove_empty(self._made)

    def set_trials(self, configs: Sequence[Any], shared: Mapping[str, Any]) -> list[Any]:
        """Set the run's trials; returns the configs in the order of the trials' numbers.

        A resumed run keeps its trials, which are identified by their whole configs, and adds the new
        ones.

        Raises:
            InputError: invalid configs, a trial of the run that is not among them, or different data.
        """
        trials, ordered = match_trials(self.trials, configs)
        other = difference_of_grids(self.repeats, trials)
        if other is not None:
            say(f"note: {other}")
        data = {name: fingerprint(value) for name, value in shared.items()}
        changed = [n for n in self._data if n in data and self._data[n] != data[n]]
        if changed:
            raise InputError(
                f"the data {' and '.join(changed)} are not those that the run started with: use the"
                " same data, or start a new run"
            )
        if self._started and (trials, data) != (self.trials, self._data):
            raise InputError(f"{self.path} already has another grid: open a run for each")
        self.trials, self._data = trials, data
        return ordered

    def start(self) -> None:
        """Create the directory and its ``config.json``, also on shared storage.

        Raises:
            InputError: the directory cannot be written, or another run has created it.
        """
        if self._started:
            return
        try:
            if self._described is None:
                described = describe_run(
                    self.experiment, self.config, self.options, self.trials, self._data
                )
            else:
                described = extended(self._described, self.config, self.trials)
            if self.objective is not None:
                described["objective"] = dataclasses.asdict(self.objective)
            content = f"{json.dumps(described, indent=2)}\n".encode()
            if self.storage.local is None:  # first, because this is the write that may fail
                self._write_remote_description(content)
            if not self.resumed:
                self.claim()
            # Before any trial starts, so that every trial on disk is in a config.json.
            write_atomically(self.path / CONFIG_FILE, content)
            self._started = True
        except FileExistsError:
            raise InputError(
                f"{self.path} has just been created by another run: start again, with another"
                " `run_name` if you gave one"
            ) from None
        except OSError as error:
            raise InputError(
                f"`run_root` {self.options.run_root} cannot be written: {reason(error)}"
            ) from None

    def _write_remote_description(self, content: bytes) -> None:
        """On shared storage; of a new run only where no driver of another machine was faster."""
        file = self.storage / CONFIG_FILE
        created = None if self.resumed else file.create(content)
        if created is False:
            raise FileExistsError
        if created is None:
            file.write(content)

    @property
    def started(self) -> bool:
        """Whether the directory has been created."""
        return self._started

    @contextlib.contextmanager
    def resume_hint(self, only_if_full: bool = False) -> Iterator[None]:
        """Turn an OSError inside the block into an InputError that says how to resume the run.

        With ``only_if_full`` only an error of a full disk or quota, of a file of the run.
        """
        try:
            yield
        except OSError as error:
            ours = error.filename is None or Path(error.filename).is_relative_to(self.path)
            if only_if_full and not (is_full(error) and ours):
                raise
            raise InputError(
                f"{self.path} cannot be written: {error.strerror or error}; make room there, and"
                f" continue with: {resume_command(self.path)}"
            ) from None

    @cached_property
    def writer(self) -> tracking.Writer:
        """TensorBoard's ``summary`` run, for what belongs to the whole grid."""
        self.start()
        return tracking.open_writer(self.path / "tensorboard" / "summary")

    def add_figure(self, name: str, figure: Figure, step: int = 0) -> Path:
        """Save a figure as ``figures/<name>.png`` and ``.svg``, and show it in TensorBoard."""
        self.start()
        path = self.path / "figures" / f"{short_name(name)}.png"
        write_atomically(path.with_suffix(".svg"), as_svg(figure))
        content = as_png(figure)
        write_atomically(path, content)
        with Image.open(io.BytesIO(content)) as image:
            pixels = np.asarray(image.convert("RGB"))
        self.writer.add_image(f"figures/{name}", pixels, step, dataformats="HWC")
        return path

    def add_animation(self, name: str, frames: Sequence[np.ndarray], fps: float = 15) -> Path:
        """Save frames (uint8 ``[H, W, 3]`` each) as ``figures/<name>.gif``, and in TensorBoard."""
        self.start()
        images = [Image.fromarray(frame) for frame in frames]
        buffer = io.BytesIO()
        images[0].save(
            buffer, "GIF", save_all=True, append_images=images[1:], duration=1000 / fps, loop=0
        )
        path = self.path / "figures" / f"{short_name(name)}.gif"
        write_atomically(path, buffer.getvalue())
        tracking.add_animation(self.writer, f"videos/{name}", buffer.getvalue())
        return path

    def add_text(self, tag: str, text: str, step: int = 0) -> None:
        """Show Markdown on TensorBoard's text page."""
        self.writer.add_text(tag, text, step)

    def add_table(self, name: str, table: pd.DataFrame, shown: bool = True) -> Path:
        """Save a table as ``<name>.csv``; ``shown`` also adds it to TensorBoard's text page."""
        self.start()
        path = self.path / f"{name}.csv"
        write_atomically(path, table.to_csv(index=False).encode())
        if shown:
            self.writer.add_text(name, _markdown(table))
        return path

    def answer(self, tag: str, sentences: Sequence[str]) -> None:
        """Print conclusions, and add them to ``answers.txt`` and TensorBoard's text page."""
        self.add_text(tag, "\n\n".join(sentences))
        self._answers[tag] = list(sentences)
        lines = [line for answers in self._answers.values() for line in answers]
        write_atomically(self.path / ANSWERS_FILE, "".join(f"{x}\n" for x in lines).encode())
        for sentence in sentences:
            say(sentence)

    def say_curves(self) -> None:
        """Print the command that shows the curves."""
        say(f"curves: {shlex.join(['tensorboard', '--logdir', str(self.path / 'tensorboard')])}")


@contextlib.contextmanager
def open_run(experiment: str, config: Any, options: RuntimeOptions) -> Iterator[Run]:
    """A run of ``experiment``: new, or the one that ``--resume`` names.

    Args:
        experiment: name of the directory below ``--run-root``.
        config: the experiment's dataclass, written to ``config.json``.

    Raises:
        InputError: ``--resume`` does not name a run of this experiment, or another driver is writing
            that run.
    """
    if is_remote(options.resume):
        path, root = fetch_run(options.resume)
        options = dataclasses.replace(options, resume=str(path), run_root=root)
    if is_remote(options.rerun):
        options = dataclasses.replace(
            options, rerun=str(fetch_run(options.rerun, field="rerun")[0])
        )
    earlier = _read_earlier(experiment, options)
    run = Run(experiment, config, options)
    if options.rerun is not None and earlier is not None:
        run.repeats = recorded_trials(earlier)
    with run.resume_hint(only_if_full=True):
        try:
            if run.resumed:
                run.claim()
            with standard_style():
                yield run
        finally:
            run.release()


def _read_earlier(experiment: str, options: RuntimeOptions) -> dict[str, Any] | None:
    """The description of the run that is continued or repeated; prints how the code differs."""
    for field, directory in (("resume", options.resume), ("rerun", options.rerun)):
        if directory is None:
            continue
        described = read_description(directory)
        found = described.get("experiment")
        if found != experiment:
            raise InputError(f"`{field}` {directory} is a run of {found}, not of {experiment}")
        for changed in (code_changes(described["git"]), version_changes(described["versions"])):
            if changed is not None:
                say(f"note: {changed}")
        return described
    return None


def _stop_this_run() -> None:
    """Another driver has taken the run over: end as after Ctrl-C; ``Lease.require`` says why."""
    os.kill(os.getpid(), signal.SIGINT)


def read_answers(directory: Path) -> list[str]:
    """The conclusions of a run, in sentences; none before its end."""
    path = directory / ANSWERS_FILE
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else []


def _markdown(table: pd.DataFrame) -> str:
    """A table for TensorBoard, which breaks words where there are many columns: only those that say much."""
    empty = [name for name in table if (table[name].isna() | (table[name] == "")).all()]
    table = table.drop(columns=[*empty, "checkpoint"], errors="ignore")

    def cell(value: Any) -> str:
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        return text.replace("|", "\\|").replace("\n", " ")

    rows = [list(table.columns), ["---"] * len(table.columns), *table.values.tolist()]
    return "\n".join("| " + " | ".join(cell(v) for v in row) + " |" for row in rows)
