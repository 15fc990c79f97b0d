"""The output while a grid runs: a live view on a terminal, one line per trial elsewhere."""

from __future__ import annotations

import io
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import pandas as pd
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from labs.runtime.loop import signals
from labs.runtime.reports import Objective
from labs.runtime.results import FAILED
from labs.statistics import Interval

SHOWN_TRIALS = 8

LINE_SECONDS = 30.0
"""In a file or a pipe, a running trial prints a line of progress at most this often."""


def replace_unencodable_characters() -> None:
    """Print "?" for characters that a terminal does not have (``LC_ALL=C``, a Windows code page).

    Otherwise ``print`` would end a run with an error, after all the work.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def say(text: str) -> None:
    """Print one line and flush it, so that it is seen at once in a file or a pipe as well."""
    print(text, flush=True)


def counted(number: int, noun: str) -> str:
    """``1 trial``, ``2 trials``."""
    return f"{number} {noun}{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """``8.3s``, ``4m 05s``, ``2h 07m``."""
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    return f"{minutes // 60}h {minutes % 60:02d}m"


@dataclass
class GridConsole:
    """Shows the progress of a grid's trials. Use it as a context manager around the sweep."""

    names: list[str]
    slots: int
    objective: Objective
    already_done: int = 0
    live: bool = True
    """Whether a terminal gets a live view instead of a line per trial."""
    last_steps: Sequence[int | None] = ()
    """The last step of each trial, or None if it is not known: for the time that is left."""
    costs: Mapping[int, float] = field(default_factory=dict)
    """How long each trial that is to run takes, in any unit; where nothing is known, all the same."""
    clock: Callable[[], float] = time.monotonic
    running: dict[int, tuple[float, str]] = field(default_factory=dict)
    """Start time and last step and metric of each running trial."""
    finished: int = 0
    failed: int = 0
    best: tuple[float, str] | None = None
    busy_seconds: float = 0.0
    """Seconds of the trials that ended in this session, in total."""
    ended_cost: float = 0.0
    """Of the same trials, as if all had run to their ends: how much of them a scheduler stops is then
    expected of the others, too."""

    def __post_init__(self) -> None:
        self._live: Live | None = None
        self._begun = self.clock()
        self._cost_left = sum(self.costs.values()) or float(len(self.names) - self.already_done)
        self._last_lines: dict[int, float] = {}
        """When each running trial last printed a line, without a live view."""

    def __enter__(self) -> Self:
        console = Console()
        if console.is_terminal and self.live and not console.is_dumb_terminal:
            self._live = Live(get_renderable=self._view, console=console, refresh_per_second=4)
            self._live.start()
            signals.show_notice_in_view(True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            signals.show_notice_in_view(False)

    def started(self, index: int) -> None:
        """A trial has started."""
        self.running[index] = (self.clock(), "")
        self._last_lines[index] = self.clock()

    def reported(self, index: int, step: int, metrics: dict[str, float]) -> None:
        """A trial has reached a step with these metrics."""
        now = self.clock()
        begun, _ = self.running.get(index, (now, ""))
        value = self.objective.value(metrics)
        last = self._last_step(index)
        place = f"step {step}" if last is None else f"step {step} of {last}"
        self.running[index] = (begun, place + self._metric(value))
        if value is not None and self.objective.is_better(value, self.best and self.best[0]):
            self.best = (value, self.names[index])
        if self._live is None and now - self._last_lines.get(index, now) >= LINE_SECONDS:
            self._last_lines[index] = now
            say(f"running {self.names[index]}  {self._progress(index, step, now - begun, value)}")

    def _progress(self, index: int, step: int, seconds: float, value: float | None) -> str:
        """``step 120 of 500  val/accuracy 0.91  about 4m 10s left``."""
        last = self._last_step(index)
        if last is None or not 0 < step < last:
            return f"step {step}{self._metric(value)}  {duration(seconds)} so far"
        left = duration(seconds * (last - step) / step)
        return f"step {step} of {last}{self._metric(value)}  about {left} left"

    def _last_step(self, index: int) -> int | None:
        return self.last_steps[index] if index < len(self.last_steps) else None

    def ended(self, index: int, status: str, value: float | None, error: str) -> None:
        """A trial is ``done``, ``stopped``, ``failed`` or ``interrupted``."""
        begun, _ = self.running.pop(index, (self.clock(), ""))
        took = self.clock() - begun
        self.busy_seconds += took
        self.ended_cost += self._cost(index)
        self._cost_left -= self._cost(index)
        if status == FAILED:
            self.failed += 1
        else:
            self.finished += 1
        line = f"{status:7s} {self.names[index]}  {duration(took)}{self._metric(value)}"
        if error:
            line += f"  {error}"
        if self._live is not None:
            if status == FAILED:
                self._print_above(line, "red")
            return
        count = self.already_done + self.finished + self.failed
        say(f"[{count}/{len(self.names)}] {line}")

    def retried(self, index: int, error: str) -> None:
        """A failed trial is started again."""
        begun, _ = self.running.pop(index, (self.clock(), ""))
        self.busy_seconds += self.clock() - begun
        line = f"retry   {self.names[index]}  {error}"
        if self._live is not None:
            self._print_above(line, "magenta")  # yellow cannot be read on white
        else:
            say(line)

    def _print_above(self, line: str, style: str) -> None:
        """The terminal breaks long lines itself, so that they can be copied as one."""
        assert self._live is not None
        self._live.console.print(Text(line, style=style), soft_wrap=True)

    def _metric(self, value: float | None) -> str:
        return "" if value is None else f"  {self.objective.metric} {value:.4g}"

    def _seconds_left(self, running: Mapping[int, tuple[float, str]]) -> float | None:
        """From the pace of the trials that ended, and how long the running ones have run."""
        left = len(self.names) - self.already_done - self.finished - self.failed
        if not self.ended_cost or not left:
            return None
        pace, now = self.busy_seconds / self.ended_cost, self.clock()
        costs = {index: self._cost(index) for index in running}
        rest = [max(0.0, pace * costs[i] - (now - begun)) for i, (begun, _) in running.items()]
        waiting = pace * max(0.0, self._cost_left - sum(costs.values()))
        return max((waiting + sum(rest)) / min(self.slots, left), *rest, 0.0)

    def _cost(self, index: int) -> float:
        return self.costs.get(index, 1.0)

    def _view(self) -> Group:
        # rich draws in another thread while trials start and end, so it needs a copy.
        running = dict(self.running)
        total = len(self.names)
        count = self.already_done + self.finished + self.failed
        left = self._seconds_left(running)
        done = self.already_done + self.finished
        words = [f"{done} of {total} done", f"{len(running)} running"]
        if self.failed:
            words.append(f"[red]{self.failed} failed[/red]")
        words.append(f"{duration(self.clock() - self._begun)} elapsed")
        if left is not None:
            words.append(f"about {duration(left)} left")
        head = Table.grid(padding=(0, 2))
        head.add_row(_bar(count, total), ", ".join(words))
        now = self.clock()
        shown = list(running.items())[:SHOWN_TRIALS]
        widest = max((len(text) for _, (_, text) in shown), default=0)
        # The name is last: on a narrow terminal it is cut off, and not what changes.
        lines = [
            f"  {duration(now - begun):>7}  {text:{widest}}  {self.names[index]}"
            for index, (begun, text) in shown
        ]
        if len(running) > SHOWN_TRIALS:
            lines.append(f"  and {len(running) - SHOWN_TRIALS} more")
        parts: list[Table | Text] = [head, *(_line(line) for line in lines)]
        if self.best is not None:
            parts.append(_line(f"  best so far:{self._metric(self.best[0])}  {self.best[1]}"))
        if notice := signals.notice():
            parts.append(_line(f"  {notice}"))
        return Group(*parts)


def _line(text: str) -> Text:
    """One line, cut off at the width of the terminal."""
    return Text(text, no_wrap=True, overflow="ellipsis")


def _bar(done: int, total: int) -> ProgressBar:
    """In the terminal's own colours, which are visible on light and on dark backgrounds."""
    return ProgressBar(
        total=total,
        completed=done,
        width=12,
        style="bright_black",
        complete_style="cyan",
        finished_style="green",
    )


def show_table(table: pd.DataFrame, intervals: Sequence[str] = ()) -> None:
    """Print a table; ``x``, ``x_low`` and ``x_high`` become one column for each of ``intervals``."""
    shown = table.copy()
    for name in intervals:
        if name not in shown:
            continue
        low, high = shown.pop(f"{name}_low"), shown.pop(f"{name}_high")
        shown[name] = [
            "" if math.isnan(mean) else Interval(mean, least, most, n=0).shown()
            for mean, least, most in zip(shown[name], low, high, strict=True)
        ]
    text = shown.to_string(index=False, na_rep="", float_format=lambda value: f"{value:.4g}")
    say(text if len(shown) else "no trial finished")
