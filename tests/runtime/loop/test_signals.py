"""SIGINT, SIGTERM and SIGHUP: in order at first, at once the second time, ignored where they were."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from labs.runtime.cli import launch
from labs.runtime.loop import signals

HANDLED = """
import signal, sys, time
from labs.runtime.loop import signals

def main():
    BODY

try:
    with signals.handled():
        main()
except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
sys.exit(signals.exit_status(0))
"""

GRID = """
import sys
from dataclasses import dataclass, field
import tyro
from labs.runtime.cli import launch
from labs.runtime.options import RuntimeOptions
from labs.runtime.directory.runs import open_run
from labs.runtime.sweep import run_grid
from procedures import WalkConfig, walk

@dataclass(frozen=True)
class Config:
    '''Nothing.'''
    runtime: tyro.conf.OmitArgPrefixes[RuntimeOptions] = field(default_factory=RuntimeOptions)

def main(config):
    with open_run("walks", config, config.runtime) as run:
        trials = [WalkConfig(seed=seed, steps=100_000, pause=0.02) for seed in (1, 2)]
        result = run_grid(walk, trials, run=run)
        print("rows:", len(result.table))
        return result.exit_status

launch(main, Config)
"""


def start(code: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
    here = str(Path(__file__).parent.parent)
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": here}, **options,
    )  # fmt: skip


def body(*lines: str) -> str:
    return HANDLED.replace("BODY", "\n    ".join(lines))


@dataclass(frozen=True)
class Config:
    """Nothing."""


@pytest.mark.parametrize(("name", "status"), [("INT", 130), ("TERM", 143), ("HUP", 129)])
def test_a_signal_is_an_interrupt_with_its_own_status(
    name: str, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    def main(_: Config) -> int:
        signal.raise_signal(getattr(signal, f"SIG{name}"))
        return 0

    with pytest.raises(SystemExit) as exit_:
        launch(main, Config, arguments=[])
    assert exit_.value.code == status
    assert capfd.readouterr().err == (
        f"SIG{name}: ending; a second signal ends at once\ninterrupted\n"
    )


@pytest.mark.parametrize(("first", "second"), [("INT", "INT"), ("TERM", "INT"), ("INT", "HUP")])
def test_a_second_signal_ends_at_once(first: str, second: str) -> None:
    process = start(
        body(
            "try:",
            "    print('ready', flush=True)",
            "    time.sleep(60)",
            "finally:",
            "    print('tidying', flush=True)",
            "    time.sleep(60)",
        )
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(getattr(signal, f"SIG{first}"))
    assert process.stdout.readline() == "tidying\n"
    began = time.monotonic()
    process.send_signal(getattr(signal, f"SIG{second}"))
    process.wait(timeout=20)
    assert time.monotonic() - began < 5
    assert process.returncode == 128 + getattr(signal, f"SIG{second}")


def test_a_second_signal_ends_what_was_asked_to_stop_and_does_not() -> None:
    """As a trial in this process that hangs: there it raises nothing that could be caught."""
    process = start(
        body(
            "with signals.stopping(lambda: print('asked', flush=True)):",
            "    print('ready', flush=True)",
            "    while True:",
            "        try: time.sleep(60)",
            "        except KeyboardInterrupt: pass",
        )
    )
    try:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "asked\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 143
    finally:
        process.kill()


def test_a_signal_that_was_ignored_stays_ignored() -> None:
    """As under nohup; the others still end it."""
    process = start(
        body(
            "print('ready', flush=True)",
            "print(sys.stdin.readline().strip(), flush=True)",
            "time.sleep(60)",
        ),
        stdin=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    process.stdin.write("still here\n")
    process.stdin.flush()
    assert process.stdout.readline() == "still here\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=20)[1].startswith("SIGTERM: ending")
    assert process.returncode == 143


def test_code_with_its_own_way_to_stop_is_asked_and_not_interrupted() -> None:
    process = start(
        body(
            "asked = []",
            "with signals.stopping(lambda: asked.append(1)):",
            "    print('ready', flush=True)",
            "    while not asked: time.sleep(0.01)",
            "print('table', flush=True)",
        )
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=20)
    assert (out, process.returncode) == ("table\n", 143)
    assert "interrupted" not in errors


def test_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in signals.SIGNALS]
    with signals.handled():
        inside = [signal.getsignal(number) for number in signals.SIGNALS]
        with signals.stopping(lambda: None):
            assert [signal.getsignal(number) for number in signals.SIGNALS] == inside
        assert all(new != old for new, old in zip(inside, before, strict=True))
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        assert signals.exit_status(0) == 143
    assert [signal.getsignal(number) for number in signals.SIGNALS] == before
    with signals.handled():
        assert signals.received() is None
        assert signals.exit_status(7) == 7


@pytest.mark.slow
@pytest.mark.ray
def test_a_sweep_writes_its_tables_and_says_how_to_resume(tmp_path: Path) -> None:
    options = ["--run-root", tmp_path, "--run-name", "x", "--checkpoint-interval", "0"]
    process = start(GRID, *options, "--num-cpus", "2")
    run = tmp_path / "walks" / "x"
    deadline = time.monotonic() + 120
    while len(list(run.glob("tensorboard/*/reports.jsonl"))) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 143
    assert "rows: 2" in out
    assert f"--resume {run}" in out
    assert errors == "SIGTERM: ending; a second signal ends at once\n"
    assert list(pd.read_csv(run / "results.csv")["status"]) == ["interrupted"] * 2
    assert len(list(run.glob("checkpoints/*/last.pt"))) == 2
