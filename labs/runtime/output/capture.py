"""What a trial's process prints, by file descriptor: Python, C code and child processes alike.

It goes to a spool file of the trial and this process. Where the driver's disk is seen, it lies there,
and the driver reads it: nothing that was written is lost with the process, and no thread of this one is
needed. On another machine a thread sends it to the driver (``remote.py``).

It stands alone, since every worker process imports it.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import socket
import sys
import tempfile
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labs.runtime.output import spool

HOST_FILE = ".host"
"""In the driver's spool directory: which machine it is on."""

_LINE_BUFFERED = 1  # C's _IOLBF


@dataclass(frozen=True)
class Destination:
    """Where the driver takes what trials print. Small, and travels to other processes."""

    spools: str
    """The driver's directory of spool files."""
    receiver: Any = None
    """The actor that takes what is printed on other machines; None where there are none."""

    def is_seen(self) -> bool:
        """Whether this process is on the driver's machine, and sees its files."""
        try:
            return Path(self.spools, HOST_FILE).read_text() == socket.gethostname()
        except OSError:
            return False


TrialOutput = tuple[Destination, str] | None
"""The trial that the output of a process belongs to: its destination, and the trial's name."""


class ProcessOutput:
    """Where the standard output and error of this process go. There is one for the process."""

    def __init__(self) -> None:
        self.trial: TrialOutput = None
        self._file: io.FileIO | None = None
        self._count = 0
        self._saved: tuple[int, int] | None = None
        self._before: set[threading.Thread] = set()
        self._sender: Any = None

    def __reduce__(self) -> str:
        return "output"  # Ray pickles actors' classes: in another process it is that one's

    def enter(self, destination: Destination | None, name: str) -> None:
        """From now on what is printed belongs to trial ``name``; None leaves things as they are."""
        if destination is None:
            return
        seen = destination.is_seen()
        if not seen and destination.receiver is None:
            return
        self._count += 1
        where = f"{name}~{socket.gethostname()}-{os.getpid()}-{self._count}"
        try:
            if seen:
                self._file = spool.create(os.path.join(destination.spools, where))
            else:
                self._file = self._sent_to(destination.receiver, where)
        except OSError:  # no room for it; the trial goes on without
            return
        if self._saved is None:
            self._prepare()
        self._flush_streams()
        for fd in (1, 2):
            os.dup2(self._file.fileno(), fd)
        self._before = set(threading.enumerate())
        self.trial = destination, name

    def join(self, trial: TrialOutput) -> None:
        """In an actor that a trial has started: from now on its output is that trial's, too.

        Args:
            trial: :attr:`trial` of the trial's process.
        """
        if trial is not None:
            self.enter(*trial)

    def leave(self) -> None:
        """The trial is over. Its threads and child processes that still run write into its own log."""
        if self._file is None or self._saved is None:
            return
        self._flush_streams()
        for thread in set(threading.enumerate()) - self._before:
            _strays.setdefault(thread, self._file)
        for fd, saved in zip((1, 2), self._saved, strict=True):
            os.dup2(saved, fd)
        self._file = self.trial = None

    def flush(self) -> None:
        """Whatever was printed until now reaches the driver before this returns, if it can be reached."""
        if self._file is not None:
            self._flush_streams()
            if self._sender is not None:
                self._sender.flush()

    def _sent_to(self, receiver: Any, name: str) -> io.FileIO:
        """A file of which the receiver gets what is written; nothing is left of it afterwards."""
        from labs.runtime.output.remote import Sender

        if self._sender is None:
            self._sender = Sender(receiver)
        with tempfile.TemporaryDirectory(prefix="labs-output-") as directory:
            file = spool.create(os.path.join(directory, name))
            self._sender.follow(os.path.join(directory, name))
        return file

    def _prepare(self) -> None:
        self._flush_streams()
        self._saved = os.dup(1), os.dup(2)
        with contextlib.suppress(OSError, ValueError, AttributeError):
            # Else C keeps back four thousand characters of what is no terminal.
            library = ctypes.CDLL(None)
            stdout = ctypes.c_void_p.in_dll(
                library, "__stdoutp" if sys.platform == "darwin" else "stdout"
            )
            library.setvbuf(stdout, None, _LINE_BUFFERED, 0)
        sys.stdout, sys.stderr = _Stream(1), _Stream(2)

    @staticmethod
    def _flush_streams() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).fflush(None)


class _Stream(io.TextIOWrapper):
    """Standard output or error: a thread that has outlived its trial writes into that one's file."""

    def __init__(self, fd: int) -> None:
        raw = io.FileIO(fd, "w", closefd=False)
        super().__init__(
            io.BufferedWriter(raw),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )

    def write(self, text: str) -> int:
        file = _strays.get(threading.current_thread()) if _strays else None
        if file is None:
            return super().write(text)
        file.write(text.encode("utf-8", "backslashreplace"))
        return len(text)


_strays: weakref.WeakKeyDictionary[threading.Thread, io.FileIO] = weakref.WeakKeyDictionary()
"""Threads that have outlived their trial, with that trial's file, which closes when they are gone."""

output = ProcessOutput()
"""That of this process."""
