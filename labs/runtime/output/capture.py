"""Capturing the output of a trial's process at its file descriptors, so also of C code and children.

The output goes to a spool file for the trial and this process. On the driver's machine the driver reads
that file, so nothing is lost if the process dies, and the process needs no thread. On another machine a
thread sends it to the driver (``remote.py``).

Every worker process imports this file, so it imports little.
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
"""A file in the driver's spool directory with the name of its machine."""

_LINE_BUFFERED = 1  # C's _IOLBF


@dataclass(frozen=True)
class Destination:
    """Where trials send their output. It is small, and is sent to their processes."""

    spools: str
    """The driver's directory of spool files."""
    receiver: Any = None
    """The actor that receives output from other machines; None if there are no others."""

    def is_local(self) -> bool:
        """Whether this process is on the driver's machine and can reach its files."""
        try:
            return Path(self.spools, HOST_FILE).read_text(encoding="utf-8") == socket.gethostname()
        except OSError:
            return False


TrialOutput = tuple[Destination, str] | None
"""The trial that the output of a process belongs to: its destination, and the trial's name."""


class ProcessOutput:
    """The destination of this process's standard output and error; there is one instance."""

    def __init__(self) -> None:
        self.trial: TrialOutput = None
        self._file: io.FileIO | None = None
        self._count = 0
        self._saved: tuple[int, int] | None = None
        self._before: set[threading.Thread] = set()
        self._sender: Any = None

    def __reduce__(self) -> str:
        return (
            "output"  # Ray pickles actor classes; in another process it is that process's instance
        )

    def enter(self, destination: Destination | None, name: str) -> None:
        """Send the output to the log of trial ``name`` from now on; with None nothing changes."""
        if destination is None:
            return
        local = destination.is_local()
        if not local and destination.receiver is None:
            return
        self._count += 1
        where = f"{name}~{socket.gethostname()}-{os.getpid()}-{self._count}"
        try:
            if local:
                self._file = spool.create(os.path.join(destination.spools, where))
            else:
                self._file = self._sent_to(destination.receiver, where)
        except OSError:  # for instance a full disk; the trial runs without a log
            return
        if self._saved is None:
            self._prepare()
        self._flush_streams()
        for fd in (1, 2):
            os.dup2(self._file.fileno(), fd)
        self._before = set(threading.enumerate())
        self.trial = destination, name

    def join(self, trial: TrialOutput) -> None:
        """Send the output of an actor to the log of the trial that has started it.

        Args:
            trial: :attr:`trial` of the trial's process.
        """
        if trial is not None:
            self.enter(*trial)

    def leave(self) -> None:
        """End of the trial. Threads and child processes that it leaves still write into its log."""
        if self._file is None or self._saved is None:
            return
        self._flush_streams()
        for thread in set(threading.enumerate()) - self._before:
            _thread_files.setdefault(thread, self._file)
        for fd, saved in zip((1, 2), self._saved, strict=True):
            os.dup2(saved, fd)
        self._file = self.trial = None

    def flush(self) -> None:
        """Wait until the driver has all output so far, if it can be reached."""
        if self._file is not None:
            self._flush_streams()
            if self._sender is not None:
                self._sender.flush()

    def _sent_to(self, receiver: Any, name: str) -> io.FileIO:
        """A file whose content is sent to the receiver; its name is removed at once."""
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
            # Otherwise C buffers 4 KiB of output that does not go to a terminal.
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
    """Standard output or error; threads of an earlier trial write into that trial's file."""

    def __init__(self, fd: int) -> None:
        raw = io.FileIO(fd, "w", closefd=False)
        super().__init__(
            io.BufferedWriter(raw),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )

    def write(self, text: str) -> int:
        file = _thread_files.get(threading.current_thread()) if _thread_files else None
        if file is None:
            return super().write(text)
        file.write(text.encode("utf-8", "backslashreplace"))
        return len(text)


_thread_files: weakref.WeakKeyDictionary[threading.Thread, io.FileIO] = weakref.WeakKeyDictionary()
"""The files of trials that have ended, by the threads that they left; closed when these have ended."""

output = ProcessOutput()
"""The output of this process."""
