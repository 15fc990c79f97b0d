"""Progress of long work over many rows: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress

from labs.runtime.loop.console import duration, say

SECONDS_BETWEEN_LINES = 10.0
MEASURED_SECONDS = 1.0
"""Over less than that no rate is given: batches come back several at a time."""


class Progress:
    """Rows per second and time left. Use as a context manager; say ``advance`` for every batch.

    Args:
        unit: what is counted, for instance "texts".
        total: how many there are.
        enabled: say nothing at all where this is false.
    """

    def __init__(self, unit: str, total: int, enabled: bool = True) -> None:
        self._unit, self._total = unit, total
        self._enabled = enabled and total > 0
        self._count = 0
        self._bar: RichProgress | None = None
        self._begun: float | None = None

    def __enter__(self) -> Self:
        self._entered = self._said = time.monotonic()
        console = Console()
        if self._enabled and console.is_terminal:
            self._bar = RichProgress(
                BarColumn(24), TextColumn("{task.description}"), console=console, transient=True
            )
            self._task = self._bar.add_task(f"0/{self._total} {self._unit}, starting", total=1.0)
            self._bar.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._enabled and error is None and self._count:
            took = time.monotonic() - self._entered
            say(f"{self._text()}, {duration(took)} with start-up")

    def advance(self, rows: int, share: float) -> None:
        """``rows`` more are done, and ``share`` (0 to 1) of all work with them.

        The rate counts from the first batch that came back, so that it leaves the start-up out.
        """
        now = time.monotonic()
        if self._begun is None:
            self._begun, self._rows_before, self._share_before = now, rows, share
        self._count += rows
        self._seconds = now - self._begun
        rate = share - self._share_before
        left = (1 - share) * self._seconds / rate if rate > 0 else None
        text = self._text() + ("" if left is None else f", about {duration(left)} left")
        if self._bar is not None:
            self._bar.update(self._task, completed=share, description=text)
        elif self._enabled and now - self._said >= SECONDS_BETWEEN_LINES and left:
            self._said = now
            say(text)

    def _text(self) -> str:
        text = f"{self._count}/{self._total} {self._unit}"
        if self._begun is not None and self._seconds >= MEASURED_SECONDS:
            text += f", {(self._count - self._rows_before) / self._seconds:.0f} {self._unit}/s"
        return text
