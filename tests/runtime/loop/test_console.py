"""What a person sees while a grid runs."""

from __future__ import annotations

import contextlib
import io
import math
import os
import pty
import random
import re
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from labs.runtime.loop import signals
from labs.runtime.loop.console import GridConsole, show_table
from labs.runtime.reports import Objective

OBJECTIVE = Objective("val/score")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def drawn(grid: GridConsole, width: int = 120) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(grid._view())
    return out.getvalue()


def test_into_a_pipe_a_long_trial_has_a_line_every_half_minute(
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = Clock()
    names = ["000-a", "001-b"]
    grid = GridConsole(names, 2, OBJECTIVE, last_steps=[400, None], clock=clock)
    with grid:
        grid.started(0)
        grid.started(1)
        for step in range(1, 100):
            clock.now += 1.0
            grid.reported(0, step, {"val/score": step / 1000})
            if step % 40 == 0:
                grid.reported(1, step, {"other/thing": 1.0})
        clock.now += 1
        grid.ended(0, "done", 0.5, "")
    assert capsys.readouterr().out.splitlines() == [
        "running 000-a  step 30 of 400  val/score 0.03  about 6m 10s left",
        "running 001-b  step 40  40.0s so far",
        "running 000-a  step 60 of 400  val/score 0.06  about 5m 40s left",
        "running 001-b  step 80  1m 20s so far",
        "running 000-a  step 90 of 400  val/score 0.09  about 5m 10s left",
        "[1/2] done    000-a  1m 40s  val/score 0.5",
    ]


def test_the_view_counts_and_names_the_best() -> None:
    clock = Clock()
    grid = GridConsole([f"trial [{i}]" for i in range(12)], 4, OBJECTIVE, 1, clock=clock)
    for index in range(11):
        grid.started(index)
    clock.now += 10
    grid.reported(3, 7, {"val/score": 0.25})
    grid.reported(4, 7, {"val/score": 0.75})
    grid.ended(3, "done", 0.25, "")
    grid.ended(5, "failed", None, "boom")
    text = drawn(grid)
    assert "2 of 12 done, 9 running, 1 failed, 10.0s elapsed" in text
    assert "trial [4]" in text and "step 7  val/score 0.75" in text  # no markup in names
    assert "and 1 more" in text
    assert "best so far:  val/score 0.75  trial [4]" in text
    # 9 trials are left of 10 s each, the running ones have done all of theirs: nothing is left
    assert "about 0.0s left" in text


def test_the_time_left_counts_what_a_failed_attempt_took() -> None:
    clock = Clock()
    grid = GridConsole(["a", "b", "c"], 1, OBJECTIVE, clock=clock)
    grid.started(0)
    clock.now += 30
    grid.retried(0, "boom")
    grid.started(0)
    clock.now += 10
    grid.ended(0, "done", 1.0, "")
    assert "about 1m 20s left" in drawn(grid)  # two trials of 40 s


def test_the_time_left_knows_how_long_each_trial_takes() -> None:
    """Long trials start first: the mean of those that ended would promise far too much time."""
    clock = Clock()
    costs = {0: 32.0, 2: 16.0, 3: 4.0, 4: 3.0, 5: 1.0}  # trial 1 was finished before
    grid = GridConsole([f"{i}" for i in range(6)], 1, OBJECTIVE, 1, costs=costs, clock=clock)
    grid.started(0)
    clock.now += 96
    assert "left" not in drawn(grid)  # nothing to go by
    grid.ended(0, "done", 0.1, "")
    assert "about 1m 12s left" in drawn(grid)  # (16 + 4 + 3 + 1) units of 3 s
    grid.started(2)
    clock.now += 12
    assert "about 1m 00s left" in drawn(grid)
    grid.ended(2, "stopped", 0.1, "")  # at a quarter: of 48 units 108 s were needed
    assert "about 18.0s left" in drawn(grid)  # 8 units of 2.25 s


def test_the_time_left_is_at_least_that_of_the_longest_running_trial() -> None:
    clock = Clock()
    costs = {0: 1.0, 1: 9.0, 2: 1.0, 3: 1.0}
    grid = GridConsole([f"{i}" for i in range(4)], 3, OBJECTIVE, costs=costs, clock=clock)
    grid.started(0)
    grid.started(1)
    clock.now += 10
    grid.ended(0, "done", 0.1, "")
    assert "about 1m 20s left" in drawn(grid)  # spread over three places it would be 33 s


def test_on_a_narrow_terminal_the_name_is_cut_and_not_the_metric() -> None:
    grid = GridConsole([f"{i:03d}-{'x' * 90}" for i in range(3)], 2, OBJECTIVE, clock=Clock())
    for index in range(2):
        grid.started(index)
        grid.reported(index, 7, {"val/score": 0.25 + index / 2})
    lines = drawn(grid, 80).splitlines()
    assert len(lines) == 4 and max(map(len, lines)) <= 80
    assert lines[1].startswith("     0.0s  step 7  val/score 0.25  000-xxx")
    assert lines[3].startswith("  best so far:  val/score 0.75  001-xxx")


@pytest.mark.parametrize("width", [40, 80, 160])
def test_the_view_is_drawn_while_trials_come_and_go(width: int) -> None:
    grid = GridConsole([str(i) for i in range(400)], 8, OBJECTIVE)
    errors: list[BaseException] = []
    ended = threading.Event()

    def draw() -> None:
        try:
            while not ended.is_set():
                drawn(grid, width)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=draw)
    thread.start()
    rng = random.Random(0)
    grid._live = object()  # type: ignore[assignment]  # as on a terminal: no lines
    for index in range(400):
        grid.started(index)
        grid.reported(index, 1, {"val/score": rng.random()})
        if index >= 8:
            grid.ended(index - 8, "done", 0.1, "")
    ended.set()
    thread.join()
    assert not errors


def test_the_view_says_how_far_a_trial_has_come() -> None:
    grid = GridConsole(["000-a", "001-b"], 2, OBJECTIVE, last_steps=[50, None], clock=Clock())
    grid.started(0)
    grid.started(1)
    grid.reported(0, 8, {"val/score": 0.25})
    grid.reported(1, 9, {"val/score": 0.5})
    text = drawn(grid)
    assert "step 8 of 50  val/score 0.25" in text and "step 9  val/score 0.5" in text


@pytest.mark.parametrize(("terminal", "live"), [("dumb", False), ("xterm-256color", True)])
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(
    terminal: str, live: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes the captured output for a terminal
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    name = "000-" + "long" * 30
    with GridConsole([name], 1, OBJECTIVE) as grid:
        grid.started(0)
        grid.ended(0, "failed", None, "ValueError: " + "no " * 40 + "end")
    out = capsys.readouterr().out
    assert ("[1/1] failed" in out) is not live
    (line,) = [line for line in out.splitlines() if "ValueError" in line]
    assert name in line and "end" in line  # in one piece


def test_small_and_large_numbers_of_a_table_are_told_apart(
    capsys: pytest.CaptureFixture[str],
) -> None:
    columns = ("loss", "loss_low", "loss_high")
    rows = [(0.000123, 0.000119, 0.000127), (4321.9, 4000.1, 4643.7), (math.nan,) * 3]
    show_table(pd.DataFrame(rows, columns=columns).assign(n=3), intervals=("loss", "absent"))
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["loss", "n"],
        ["0.000123", "[0.000119,", "0.000127]", "3"],
        ["4322", "[4000,", "4644]", "3"],
        ["3"],
    ]


INTERRUPTED = """
import os, signal, threading, time
from labs.runtime.loop import signals
from labs.runtime.loop import signals
from labs.runtime.loop.console import GridConsole
from labs.runtime.reports import Objective

stopped = threading.Event()
with signals.handled(), GridConsole(["000-a"], 1, Objective("val/score")) as grid:
    with signals.stopping(stopped.set):
        grid.started(0)
        time.sleep(0.6)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.6)
print("stopped:", stopped.is_set())
"""


@pytest.mark.parametrize(
    ("terminal", "errors"), [("xterm", "terminal"), ("xterm", "file"), ("dumb", "terminal")]
)
def test_the_first_signal_is_told_in_the_live_view_and_does_not_tear_it(
    terminal: str, errors: str, tmp_path: Path
) -> None:
    master, other = pty.openpty()
    with (tmp_path / "errors").open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", INTERRUPTED],
            env={**os.environ, "TERM": terminal, "COLUMNS": "100"},
            stdout=other, stderr=other if errors == "terminal" else file,
        )  # fmt: skip
    os.close(other)
    written = b""
    with contextlib.suppress(OSError):  # the process has gone
        while part := os.read(master, 4096):
            written += part
    assert process.wait(60) == 0
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", written.decode())
    notice = "SIGINT: ending; a second signal ends at once"
    assert "stopped: True" in text
    in_view, in_all = text.count(f"  {notice}"), text.count(notice)
    assert in_all == in_view > 0 if terminal == "xterm" else (in_view, in_all) == (0, 1)
    assert (tmp_path / "errors").read_text() == (f"{notice}\n" if errors == "file" else "")


def test_after_the_view_a_signal_is_a_line_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    assert not signals._in_view
    with GridConsole(["000-a"], 1, OBJECTIVE) as grid:
        assert signals._in_view and "ending" not in drawn(grid)
    assert not signals._in_view
