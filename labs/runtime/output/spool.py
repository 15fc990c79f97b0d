"""Spool files: a trial's processes append to them while another process reads them.

A writer holds a shared lock on the file. Its child processes inherit the lock, and the system releases
it when the last of them has ended, even by a crash. So a reader knows when there are no writers left.
"""

from __future__ import annotations

import fcntl
import io
import os

SENT = "~sent"
"""End of the name of a spool file with output from another machine, which was limited there."""

PART_SECONDS = 1.0
"""An unfinished line is returned after this many seconds."""
_CHUNK = 2**20
_TRUNCATED = 2**24
"""A file is truncated after this many bytes were read, so that it does not fill the disk."""


def trial_of(spool_name: str) -> str:
    """The name of the trial that a spool file belongs to; a trial's name has no ``~``."""
    return spool_name.partition("~")[0]


def create(path: str) -> io.FileIO:
    """Create a spool file with a lock on it; other processes may append to it, too."""
    directory, name = os.path.split(path)
    hidden = os.path.join(directory, f".{name}")
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    file = io.FileIO(os.open(hidden, flags, 0o600), "a+")
    fcntl.flock(file, fcntl.LOCK_SH)
    os.rename(hidden, path)  # only now, since without the lock it would seem to have no writers
    return file


class Spool:
    """Reads a spool file, each time from the end of the last read."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "r+b", buffering=0)  # noqa: SIM115  # close() closes it
        self._position = 0
        self._part, self._part_since = b"", 0.0

    def is_over(self) -> bool:
        """Whether it has no writers any more."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def read(self, now: float, everything: bool = False) -> bytes:
        """The new complete lines, about a MiB at most; empty if there are none.

        Args:
            now: the time in seconds, to return an unfinished line after ``PART_SECONDS``.
            everything: also return an unfinished line.
        """
        data = os.pread(self._file.fileno(), _CHUNK, self._position)
        self._position += len(data)
        if self._position > _TRUNCATED and len(data) < _CHUNK:
            # Only a flood of output gets here. What is written between the read and the truncation is
            # lost, as most of the flood's lines are.
            self._file.truncate(0)
            self._position = 0
        if not self._part:
            self._part_since = now
        whole = len(data) < _CHUNK and (everything or now - self._part_since >= PART_SECONDS)
        data = self._part + data
        end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if whole or len(data) - end > _CHUNK:
            end = len(data)
        self._part = data[end:]
        if end:
            self._part_since = now
        return data[:end]

    def close(self) -> None:
        """Close the file."""
        self._file.close()
