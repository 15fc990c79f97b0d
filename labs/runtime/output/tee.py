"""What a trial prints in this process, into its log as well: console and debugger stay as they are."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any

from labs.runtime.output.log_file import LogFile

_DEBUGGERS = ("pdb", "cmd", "bdb")
"""Modules whose own output is no trial's."""


class Tee:
    """A text stream that writes where another one does, and into a log while it has one.

    It is that other stream for all who ask, so that input with a history works at a breakpoint.
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
    """Inside the block, what this process prints by Python goes into ``log``, too."""
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
        # Whoever has kept one writes to the console alone from now on.
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
    """The handlers of all loggers that write to a stream which they have been given."""
    loggers = [logging.getLogger(), *logging.Logger.manager.loggerDict.values()]
    handlers = [h for found in loggers if isinstance(found, logging.Logger) for h in found.handlers]
    return [
        h
        for h in dict.fromkeys(handlers)
        if isinstance(h, logging.StreamHandler)
        and h is not logging.lastResort
        and "stream" in vars(h)
    ]
