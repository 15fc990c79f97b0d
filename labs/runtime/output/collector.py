"""Collecting the output of running trials into the run's directory. Does not depend on Ray."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from labs.runtime.output.capture import HOST_FILE
from labs.runtime.output.log_file import Limiter, LogFile, log_path
from labs.runtime.output.spool import SENT, Spool, trial_of

POLL_SECONDS = 0.25


class Collector:
    """Reads the spool files of all trials' processes inside a ``with`` block.

    Attributes:
        spools: the directory of the spool files.

    Args:
        run: the run's directory.
        may_write: returns whether this driver may still write the run.
    """

    def __init__(self, run: Path, may_write: Callable[[], bool] = lambda: True) -> None:
        self._run, self._may_write = run, may_write
        self.spools = tempfile.mkdtemp(prefix="labs-output-")
        Path(self.spools, HOST_FILE).write_text(socket.gethostname(), encoding="utf-8")
        self._open: dict[str, tuple[Spool, Limiter | None]] = {}
        self._logs: dict[str, LogFile] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._collect, name="output", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self._look(everything=True)
        for opened, _limiter in self._open.values():
            opened.close()
        shutil.rmtree(self.spools, ignore_errors=True)

    def _collect(self) -> None:
        while not self._ended.wait(POLL_SECONDS):
            with contextlib.suppress(OSError):  # for instance too many open files: try again
                self._look()

    def _look(self, everything: bool = False) -> None:
        """Read what is new in all files, and close those that have no writer any more."""
        if not self._may_write():
            return
        for name in os.listdir(self.spools):
            if not name.startswith(".") and name not in self._open:
                spool = Spool(os.path.join(self.spools, name))
                self._open[name] = spool, None if name.endswith(SENT) else Limiter()
        for name in list(self._open):
            self._read(name, everything)
        writing = {trial_of(name) for name in self._open}
        for trial, log in list(self._logs.items()):
            if log.is_behind:
                log.write(b"")
            elif trial not in writing:
                del self._logs[trial]

    def _read(self, name: str, everything: bool) -> None:
        spool, limiter = self._open[name]
        over = spool.is_over()  # before reading, so that nothing can be written afterwards
        while data := spool.read(time.monotonic(), over or everything):
            self._write(name, limiter.keep(data) if limiter else data)
        if limiter is not None:
            self._write(name, limiter.finish() if over or everything else limiter.keep(b""))
        if over:
            os.unlink(os.path.join(self.spools, name))
            del self._open[name]
            spool.close()

    def _write(self, name: str, data: bytes) -> None:
        trial = trial_of(name)
        if data:
            if trial not in self._logs:
                self._logs[trial] = LogFile(log_path(self._run, trial))
            self._logs[trial].write(data)
