"""When to say that something is waited for, and saying it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from labs.runtime.loop.console import say

FIRST_SECONDS = 30.0
"""Seconds until the first message; then the pause doubles, up to ten minutes."""
LONGEST_PAUSE = 600.0


class Pauses:
    """Times at which it is worth saying that something is still waited for."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Something has happened: wait for the first time again."""
        self._began = self._clock()
        self._pause = FIRST_SECONDS
        self._next = self._began + self._pause

    def due(self) -> float | None:
        """Seconds waited so far, where one of the times has come; else None."""
        now = self._clock()
        if now < self._next:
            return None
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._next = now + self._pause
        return now - self._began


@contextlib.contextmanager
def said_while_waiting(what: str, interval: float = 1.0) -> Iterator[None]:
    """While the block, which cannot look after it itself, takes long: say that ``what`` is awaited."""
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
