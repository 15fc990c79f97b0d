"""A copy of a run's directory on shared storage, at most some seconds old.

The driver's record (config, reports, tables, curves, figures) is written on the driver's disk, which
is lost with a spot instance or a pod. With ``--run-root s3://...`` a thread copies what has changed,
and ``--resume s3://.../RUN`` downloads it on another machine.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import TypeGuard

from labs.runtime.directory.storage import StoragePath, reason, retry_io, write_atomically
from labs.runtime.errors import InputError
from labs.runtime.loop.console import say

MIRROR_SECONDS = 5.0
"""Interval between two looks for changed files."""

_BYTES_PER_SECOND = 2**20
"""A file that grows is always copied whole, so a large one is copied less often: at this mean rate."""

SESSION_FILE = "session.json"
"""Has the lease number of the driver that wrote last: of two copies, the one with the higher number is newer."""

_NOT_MIRRORED = ("checkpoints", "lease")  # these are written there directly


class Mirror:
    """Copies the files of a directory to shared storage when they have changed.

    Args:
        source: the run's directory on this machine.
        target: the directory of the copy.
    """

    def __init__(self, source: Path, target: StoragePath) -> None:
        self._source, self._target = source, target
        self._copied: dict[str, tuple[int, int]] = {}
        self._not_before: dict[str, float] = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._fails = False

    def start(self) -> None:
        """Copy in a thread, until ``close``."""
        self._thread = threading.Thread(target=self._copy_regularly, name="mirror", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Copy what is left; if the storage cannot be reached, retry for some time.

        Raises:
            InputError: the storage could not be reached.
        """
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        try:
            retry_io(lambda: self.copy(everything=True))
        except OSError as error:
            raise InputError(
                f"the record of the run could not be copied to {self._target}: {reason(error)};"
                f" it is in {self._source}"
            ) from None

    def copy(self, everything: bool = False) -> None:
        """Copy the files that have changed.

        Args:
            everything: also large files that were copied recently.

        Raises:
            OSError: the storage fails.
        """
        for path in sorted(self._source.rglob("*")):
            name = path.relative_to(self._source).as_posix()
            # Names with a dot are temporary files of writes that are under way.
            if name.split("/")[0] in _NOT_MIRRORED or path.name.startswith("."):
                continue
            try:
                if not path.is_file():
                    continue
                state = path.stat()
                known = (state.st_mtime_ns, state.st_size)
                waits = not everything and time.monotonic() < self._not_before.get(name, 0.0)
                if self._copied.get(name) == known or waits:
                    continue
                # Read after `stat`: if the file changes in between, it is copied once more next time.
                content = path.read_bytes()
            except FileNotFoundError:  # a temporary file that has been renamed
                continue
            (self._target / name).write(content)
            self._copied[name] = known
            self._not_before[name] = time.monotonic() + len(content) / _BYTES_PER_SECOND

    def _copy_regularly(self) -> None:
        while not self._ended.wait(MIRROR_SECONDS):
            try:
                self.copy()
            except OSError as error:  # try again next time, and at the end
                if not self._fails:
                    say(f"the run's record cannot be copied to {self._target}: {reason(error)}")
                self._fails = True
            else:
                if self._fails:
                    say(f"the run's record is copied to {self._target} again")
                self._fails = False


def write_session(directory: Path, number: int) -> None:
    """Record in the directory that the driver with this lease number writes it."""
    write_atomically(directory / SESSION_FILE, json.dumps({"lease": number}).encode())


def fetch_run(
    uri: str, root: Path = Path("runs"), field: str = "resume", quiet: bool = False
) -> tuple[Path, str]:
    """Download a run's directory from shared storage, unless this machine's copy is as new.

    Args:
        uri: the run, ``s3://bucket/runs/EXPERIMENT/NAME``.
        root: directory of runs on this machine.
        field: the option that an error names.
        quiet: print nothing.

    Returns:
        The local directory of the run, and the ``run_root`` that the run belongs to.

    Raises:
        InputError: there is no such run, or the storage cannot be read.
    """
    named = f"`{field}` {uri}" if field else uri
    source = StoragePath(uri.rstrip("/"))
    path = (root / source.parent.name / source.name).absolute()
    try:
        if _session((source / SESSION_FILE).read()) > _session(_read(path / SESSION_FILE)):
            names = [n for n in source.files() if n.split("/")[0] not in _NOT_MIRRORED]
            for name in names:
                content = (source / name).read()
                if content is not None:
                    write_atomically(path / name, content)
            if not quiet:
                say(f"{len(names)} files of {uri} are now in {path}")
    except OSError as error:
        raise InputError(f"{named} cannot be read: {reason(error)}") from None
    if not path.is_dir():
        raise InputError(f"{named} is not a run: it has no {SESSION_FILE}")
    return path, str(source.parent.parent)


def is_remote(directory: str | None) -> TypeGuard[str]:
    """Whether a run is named by its URI on shared storage, and not by a directory."""
    return directory is not None and StoragePath(directory).local is None


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _session(content: bytes | None) -> int:
    return -1 if content is None else int(json.loads(content)["lease"])
