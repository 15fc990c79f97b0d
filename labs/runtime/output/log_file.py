"""The log file of a trial, with a limit on its rate. Does not depend on Ray."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

LINES_PER_SECOND = 200.0
BYTES_PER_SECOND = 64 * 1024.0
"""The rates at which a trial may print permanently."""
BURST_LINES = 10_000.0
BURST_BYTES = 1024 * 1024.0
"""How much it may print at once, for instance the layers of a model."""

DIRECTORY = "logs"
"""The directory of logs in the run's directory."""

_MAX_PENDING = 2**20
"""Bytes that are kept in memory while the disk is full."""


def log_path(run: Path, name: str) -> Path:
    """The path of a trial's log; the file does not exist before the trial has printed something."""
    return run / DIRECTORY / f"{name}.txt"


class Limiter:
    """Limits the rate of lines (a token bucket), and notes how many were dropped."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._then = clock()
        self._lines, self._bytes = BURST_LINES, BURST_BYTES
        self._dropping = False
        self._dropped = 0
        self._in_dropped_line = False
        self._at_line_start = True

    def keep(self, data: bytes) -> bytes:
        """The part of ``data`` that is kept, after a note on dropped lines if these have ended."""
        now = self._clock()
        self._lines = min(BURST_LINES, self._lines + LINES_PER_SECOND * (now - self._then))
        self._bytes = min(BURST_BYTES, self._bytes + BYTES_PER_SECOND * (now - self._then))
        self._then = now
        note = b""
        if self._dropping:
            # Resume only with tokens for a second, so that there is at most one note per second.
            if self._lines < LINES_PER_SECOND or self._bytes < BYTES_PER_SECOND:
                return self._drop(data)
            if self._in_dropped_line:
                _, end, data = data.partition(b"\n")
                if not end:
                    return b""
                self._dropped += 1
            note = self._note()
        return note + self._within(data)

    def finish(self) -> bytes:
        """The note on lines that were dropped at the end, if any."""
        self._dropped += self._in_dropped_line
        return self._note() if self._dropping else b""

    def _within(self, data: bytes) -> bytes:
        lines = data.count(b"\n") + data.count(b"\r")
        if lines > self._lines or len(data) > self._bytes:
            kept, lines = 0, 0
            for line in data.splitlines(keepends=True):
                if lines + 1 > self._lines or kept + len(line) > self._bytes:
                    break
                kept, lines = kept + len(line), lines + 1
            self._drop(data[kept:])
            data = data[:kept]
        self._lines -= lines
        self._bytes -= len(data)
        if data:
            self._at_line_start = data.endswith((b"\n", b"\r"))
        return data

    def _drop(self, data: bytes) -> bytes:
        if data:
            self._dropping = True
            self._in_dropped_line = not data.endswith(b"\n")
            self._dropped += data.count(b"\n")
        return b""

    def _note(self) -> bytes:
        count, self._dropped = self._dropped, 0
        self._dropping = self._in_dropped_line = False
        text = (
            f"[labs: {count:,} line{'s were' if count != 1 else ' was'} dropped here: a trial may print"
            f" {LINES_PER_SECOND:.0f} lines and {BYTES_PER_SECOND / 1024:.0f} KiB a second]\n"
        )
        begin = b"" if self._at_line_start else b"\n"
        self._at_line_start = True
        return begin + text.encode()


class LogFile:
    """Appends to the log of a trial, from any thread. If the disk is full, the end is kept for later.

    Args:
        path: the log.
        limiter: limits the rate; None if the data are already limited.
    """

    def __init__(self, path: Path, limiter: Limiter | None = None) -> None:
        self._path = path
        self._limiter = limiter
        self._pending = b""
        self._lock = threading.Lock()
        self._fresh = True

    @property
    def is_behind(self) -> bool:
        """Whether some data are not written yet."""
        return bool(self._pending)

    def write(self, data: bytes, last: bool = False) -> None:
        """Append ``data`` within the limits.

        Args:
            data: the output; if it is empty, only pending data and a note may be written.
            last: write a note on dropped lines at once.
        """
        with self._lock:
            if self._limiter is not None:
                data = self._limiter.keep(data) + (self._limiter.finish() if last else b"")
            self._pending = (self._pending + data)[-_MAX_PENDING:]
            if self._pending:
                self._append()

    def _append(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "ab+") as file:
                size = file.tell()
                if self._fresh and size:  # an earlier attempt may have ended within a line
                    file.seek(size - 1)
                    if file.read(1) not in b"\n\r":
                        file.write(b"\n")
                file.write(self._pending)
        except OSError:  # the next write tries again
            return
        self._fresh = False
        self._pending = b""


def last_lines(run: Path, name: str, count: int = 5) -> list[str]:
    """The last lines of a trial's log, as :func:`last_lines_of` returns them.

    Args:
        run: the run's directory.
        name: the trial's name.
        count: the largest number of lines.
    """
    return last_lines_of(log_path(run, name), count)


def last_lines_of(path: Path, count: int, width: int = 300) -> list[str]:
    """The last lines of a text file, without empty ones; none if there is no such file.

    Args:
        path: the file.
        count: the largest number of lines.
        width: the largest number of characters of a line.
    """
    try:
        with open(path, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 64 * 1024))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    # A progress bar overwrites its line with carriage returns: take its last state.
    lines = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n")]
    return [line[:width] for line in lines if line][-count:]
