"""Messages about what is being waited for."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from labs.runtime.loop.console import say

FIRST_SECONDS = 30.0
"""Seconds until the first message; after each message the pause doubles."""
LONGEST_PAUSE = 600.0
"""Longest pause between two messages, in seconds."""


class Pauses:
    """Times at which to print that something is still being waited for."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Start again with the first pause, because something has happened."""
        self._began = self._clock()
        self._pause = FIRST_SECONDS
        self._next = self._began + self._pause

    def due(self) -> float | None:
        """Seconds waited so far if a message is due, otherwise None."""
        now = self._clock()
        if now < self._next:
            return None
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._next = now + self._pause
        return now - self._began


@contextlib.contextmanager
def report_while_waiting(what: str, interval: float = 1.0) -> Iterator[None]:
    """Print that ``what`` is being waited for while the block, a blocking call, takes long."""
    over = threading.Event()
    pauses = Pauses()

    def watch() -> None:
        while not over.wait(interval):
            seconds = pauses.due()
            if seconds is not None:
                say(f"waiting for {what} ({seconds:.0f} s)")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
