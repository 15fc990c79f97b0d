"""A file that a trial's processes append to while somebody else reads it.

Whoever writes holds a shared lock on it, which its child processes inherit, and which the system takes
back when the last of them has gone, however it went.
"""

from __future__ import annotations

import fcntl
import io
import os

SENT = "~sent"
"""End of the name of a spool file that comes from another machine, where its limits are kept."""

PART_SECONDS = 1.0
"""A line without an end is shown after so long."""
_CHUNK = 2**20
_TRUNCATED = 2**24
"""A file of which so much was read is emptied."""


def trial_of(spool_name: str) -> str:
    """The name of the trial that a spool file belongs to; a trial's name has no ``~``."""
    return spool_name.partition("~")[0]


def create(path: str) -> io.FileIO:
    """A new spool file, which other processes may append to as well; with a lock on it."""
    directory, name = os.path.split(path)
    hidden = os.path.join(directory, f".{name}")
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    file = io.FileIO(os.open(hidden, flags, 0o600), "a+")
    fcntl.flock(file, fcntl.LOCK_SH)
    os.rename(hidden, path)  # without a lock it would look as if its writers had gone
    return file


class Spool:
    """Reads a spool file, each time from where the last reading ended."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "r+b", buffering=0)  # noqa: SIM115  # close() closes it
        self._position = 0
        self._part, self._part_since = b"", 0.0

    def is_over(self) -> bool:
        """Whether nobody writes it any more."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def read(self, now: float, everything: bool = False) -> bytes:
        """The whole lines that are new, about a MiB at most; nothing where there are none.

        Args:
            now: the time, for a line without an end that waits too long.
            everything: also a line that has no end yet.
        """
        data = os.pread(self._file.fileno(), _CHUNK, self._position)
        self._position += len(data)
        if self._position > _TRUNCATED and len(data) < _CHUNK:
            # Only a flood gets here: what is written between is among the lines that it loses.
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
