"""Copying the output of a trial in this process to its log; the console and debugger are not changed."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any

from labs.runtime.output.log_file import LogFile

_DEBUGGERS = ("pdb", "cmd", "bdb")
"""Modules whose output does not belong to a trial."""


class Tee:
    """A text stream that writes to another stream, and to a log while it has one.

    All other attributes are those of the other stream, so that a debugger's line editing works.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.log: LogFile | None = None

    def write(self, text: str) -> int:
        """Write to both."""
        written: int = self.stream.write(text)
        if self.log is not None and sys._getframe(1).f_globals.get("__name__") not in _DEBUGGERS:
            self.log.write(text.encode("utf-8", "backslashreplace"))
        return written

    def writelines(self, lines: Any) -> None:
        """Write several."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.stream)


@contextlib.contextmanager
def logged(log: LogFile) -> Iterator[None]:
    """Inside the block, what Python code prints in this process also goes to ``log``."""
    before = sys.stdout, sys.stderr
    tees = [Tee(stream) for stream in before]
    streams = dict(zip(map(id, before), tees, strict=True))
    handlers = [h for h in _handlers() if id(h.stream) in streams]
    for tee in tees:
        tee.log = log
    sys.stdout, sys.stderr = tees
    for handler in handlers:
        handler.stream = streams[id(handler.stream)]
    try:
        yield
    finally:
        # Code that has kept a reference to one writes only to the console from now on.
        for tee in tees:
            tee.log = None
        if sys.stdout is tees[0]:
            sys.stdout = before[0]
        if sys.stderr is tees[1]:
            sys.stderr = before[1]
        for handler in handlers:
            if isinstance(handler.stream, Tee):
                handler.stream = handler.stream.stream


def _handlers() -> list[logging.StreamHandler[Any]]:
    """The handlers of all loggers that have a stream of their own."""
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    handlers = [h for found in loggers if isinstance(found, logging.Logger) for h in found.handlers]
    return [
        h
        for h in dict.fromkeys(handlers)
        if isinstance(h, logging.StreamHandler)
        and h is not logging.lastResort
        and "stream" in vars(h)
    ]
