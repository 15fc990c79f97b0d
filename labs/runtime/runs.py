"""Run directories: everything that a run leaves behind, and what is needed to run it again."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import importlib.metadata
import io
import json
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from labs.runtime import tracking
from labs.runtime.console import say
from labs.runtime.errors import InputError
from labs.runtime.options import RuntimeOptions
from labs.runtime.storage import StoragePath, reason, write_atomically

CONFIG_FILE = "config.json"


class Run:
    """A run's directory. Nothing is written before ``start`` or the first result.

    Attributes:
        path: absolute directory of the run.
        options: where and how it runs.
        storage: the run where all machines see it: an object store, or ``path`` itself.
        checkpoints: what the trials write, inside ``storage``.
    """

    def __init__(self, experiment: str, config: Any, options: RuntimeOptions) -> None:
        self.experiment = experiment
        self.config = config
        self.options = options
        self.resumed = options.resume is not None
        root = StoragePath(options.run_root)
        if options.resume is not None:
            self.path = Path(options.resume).expanduser().resolve()
        else:
            parent = (root.local or Path("runs")).expanduser().resolve() / experiment
            self.path = _free_directory(parent, options.run_name)
        if root.local is None:
            self.storage = root / experiment / self.path.name
        else:
            self.storage = StoragePath(self.path, shared=root.shared)
        self.checkpoints = self.storage / "checkpoints"
        self._started = False

    def start(self) -> None:
        """Create the directory and its ``config.json``, which shared storage gets as well.

        Raises:
            InputError: the directory cannot be written, or another run has taken it.
        """
        if self._started:
            return
        self._started = True
        try:
            if self.path.exists() and not self.resumed:  # before shared storage is written to
                raise FileExistsError
            content = StoragePath(self.path / CONFIG_FILE).read() if self.resumed else None
            if content is None:
                description = json.dumps(_description(self), indent=2, default=str)
                content = f"{description}\n".encode()
            if self.storage.local is None:  # first: it may be out of reach
                (self.storage / CONFIG_FILE).write(content)
            self.path.mkdir(parents=True, exist_ok=self.resumed)
            if not self.resumed:
                write_atomically(self.path / CONFIG_FILE, content)
        except FileExistsError:
            raise InputError(
                f"{self.path} has just been taken by another run: start again, with another"
                " --run-name where you gave one"
            ) from None
        except OSError as error:
            raise InputError(
                f"--run-root {self.options.run_root} cannot be written: {reason(error)}"
            ) from None

    @contextlib.contextmanager
    def naming_the_way_on(self) -> Iterator[None]:
        """Where the run's directory cannot be written inside the block, say how to go on."""
        try:
            yield
        except OSError as error:
            raise InputError(
                f"{self.path} cannot be written: {error.strerror or error}; make room there, and go"
                f" on with --resume {self.path}"
            ) from None

    @cached_property
    def writer(self) -> tracking.SummaryWriter:
        """TensorBoard's ``summary`` run: what belongs to no single trial."""
        self.start()
        return tracking.open_writer(self.path / "tensorboard" / "summary")

    def add_figure(self, name: str, figure: Figure, step: int = 0) -> Path:
        """Save a figure as ``figures/<name>.png`` and show it in TensorBoard."""
        self.start()
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=150, bbox_inches="tight")
        path = self.path / "figures" / f"{name}.png"
        write_atomically(path, buffer.getvalue())
        with Image.open(buffer) as image:
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
        path = self.path / "figures" / f"{name}.gif"
        write_atomically(path, buffer.getvalue())
        tracking.add_animation(self.writer, f"videos/{name}", buffer.getvalue())
        return path

    def add_text(self, tag: str, text: str, step: int = 0) -> None:
        """Show Markdown on TensorBoard's text page."""
        self.writer.add_text(tag, text, step)

    def add_table(self, name: str, table: pd.DataFrame, shown: bool = True) -> Path:
        """Save a table as ``<name>.csv``; ``shown`` puts it on TensorBoard's text page, too."""
        self.start()
        path = self.path / f"{name}.csv"
        write_atomically(path, table.to_csv(index=False).encode())
        if shown:
            self.writer.add_text(name, _markdown(table))
        return path

    def answer(self, tag: str, sentences: Sequence[str]) -> None:
        """Print what the run comes to, and show it on TensorBoard's text page."""
        self.add_text(tag, "\n\n".join(sentences))
        for sentence in sentences:
            say(sentence)

    def say_curves(self) -> None:
        """Print how to look at the curves."""
        say(f"curves: tensorboard --logdir {self.path / 'tensorboard'}")


@contextlib.contextmanager
def open_run(experiment: str, config: Any, options: RuntimeOptions) -> Iterator[Run]:
    """A run of ``experiment``: new, or the one that ``--resume`` names.

    Args:
        experiment: name of the directory below ``--run-root``.
        config: the experiment's dataclass, written to ``config.json``.

    Raises:
        InputError: ``--resume`` names no run of this experiment.
    """
    if options.resume is not None:
        described = read_description(options.resume)
        if described.get("experiment") != experiment:
            raise InputError(
                f"--resume {options.resume} is a run of {described.get('experiment')},"
                f" not of {experiment}"
            )
    run = Run(experiment, config, options)
    try:
        yield run
    finally:
        if "writer" in vars(run):
            run.writer.close()


def read_description(directory: str | Path) -> dict[str, Any]:
    """The ``config.json`` of a run.

    Raises:
        InputError: the directory holds no run.
    """
    path = Path(directory).expanduser() / CONFIG_FILE
    try:
        described = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        described = None
    if not isinstance(described, dict) or "config" not in described:
        raise InputError(
            f"{directory} is not the directory of a run: it has no readable {CONFIG_FILE}"
        )
    return described


def plain_config(config: Any) -> dict[str, Any]:
    """An experiment's config as JSON values, without the runtime options."""
    values = {k: v for k, v in dataclasses.asdict(config).items() if k != "runtime"}
    return json.loads(json.dumps(values, default=str))


def _description(run: Run) -> dict[str, Any]:
    versions = {"python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in ("torch", "ray")}
    return {
        "experiment": run.experiment,
        "created": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": shlex.join(sys.argv),
        "arguments": sys.argv[1:],
        "config": plain_config(run.config),
        "runtime": dataclasses.asdict(run.options),
        "git": _git_commit(),
        "versions": versions,
    }


def _git_commit() -> str | None:
    """The commit of the code, with ``-dirty`` where files differ from it."""
    command = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(
            command,
            check=False,
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None


def _free_directory(parent: Path, name: str | None) -> Path:
    if name is not None:
        if (parent / name).exists():
            raise InputError(
                f"--run-name {name} exists already in {parent}: choose another, or continue it"
                f" with --resume {parent / name}"
            )
        return parent / name
    stem = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    candidates = [stem, *(f"{stem}-{n}" for n in range(2, 1000))]
    return next(parent / c for c in candidates if not (parent / c).exists())


def _markdown(table: pd.DataFrame) -> str:
    def cell(value: Any) -> str:
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        return text.replace("|", "\\|").replace("\n", " ")

    rows = [list(table.columns), ["---"] * len(table.columns), *table.values.tolist()]
    return "\n".join("| " + " | ".join(cell(v) for v in row) + " |" for row in rows)
