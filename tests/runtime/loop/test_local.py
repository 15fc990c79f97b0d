"""The plain loop in this process: the same trials as under Tune, without Ray."""

from __future__ import annotations

import itertools
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import ray
import torch
from procedures import WalkConfig, walk

from labs.runtime.checkpoints import load_checkpoint
from labs.runtime.directory.recorder import Recorder
from labs.runtime.directory.runs import open_run
from labs.runtime.directory.storage import StoragePath
from labs.runtime.errors import InputError
from labs.runtime.loop import signals
from labs.runtime.machine.session import in_local_mode
from labs.runtime.options import RuntimeOptions
from labs.runtime.reports import Checkpoint, Objective, Report
from labs.runtime.results import GridResult
from labs.runtime.sweep import run_grid

pytestmark = pytest.mark.usefixtures("without_ray")

OFFSET = np.array([1.0, 2.0])


@dataclass(frozen=True)
class Config:
    trials: int = 1


def sweep(tmp_path: Path, configs: list[WalkConfig], **options: Any) -> GridResult:
    shared = options.pop("shared", {"offset": OFFSET})
    runtime = RuntimeOptions(run_root=str(tmp_path), local_mode=True, **options)
    with open_run("walk", Config(len(configs)), runtime) as run:
        result = run_grid(
            walk, configs, run=run, objective=Objective("walk/position"), shared=shared
        )
    assert not ray.is_initialized() and not in_local_mode()
    return result


def only_run(tmp_path: Path) -> Path:
    (run,) = (tmp_path / "walk").iterdir()
    return run


def positions(result: GridResult, trial: int) -> list[float]:
    return list(result.history.loc[result.history["trial"] == trial, "walk/position"])


def expected(config: WalkConfig) -> list[float]:
    return [report.metrics["walk/position"] for report in walk(config, offset=OFFSET)]


def test_the_numbers_are_those_of_a_plain_loop_and_in_this_process(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    configs = [WalkConfig(seed=seed, steps=4 + seed) for seed in range(3)]
    result = sweep(tmp_path, configs, cpus_per_trial=threads + 1 if threads == 1 else 1)
    assert torch.get_num_threads() == threads
    assert list(result.table["status"]) == ["done"] * 3
    assert set(result.history["time/process"]) == {os.getpid()}
    for trial, config in enumerate(configs):
        assert positions(result, trial) == expected(config)
        best = load_checkpoint(result.checkpoint(trial))
        assert best["step"] == result.table["step"][trial] == 1 + np.argmax(expected(config))
    assert (result.best()["trial"], result.exit_status) == (
        int(np.argmax([max(expected(config)) for config in configs])),
        0,
    )


def test_a_retry_resumes_and_a_failure_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configs = [
        WalkConfig(seed=1, fail_at=3, once=str(tmp_path / "once")),
        WalkConfig(seed=2, fail_at=2),
        WalkConfig(seed=3),
    ]
    result = sweep(tmp_path, configs, max_failures=1, checkpoint_interval=0)
    assert list(result.table["status"]) == ["done", "failed", "done"]
    assert positions(result, 0) == expected(WalkConfig(seed=1))
    assert result.table["error"][1] == "RuntimeError: planted at step 2"
    out = capsys.readouterr().out
    assert len(re.findall("^retry ", out, re.M)) == 2
    command = re.search(r"run the rest with: (.*)", out)[1]
    assert command.endswith(f"--resume {only_run(tmp_path)}")


def test_a_bug_of_the_driver_ends_the_run_with_everything_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = Recorder.reported

    def reported(recorder: Recorder, index: int, *arguments: Any) -> None:
        if index == 1:
            raise ZeroDivisionError("a bug")
        recorded(recorder, index, *arguments)

    configs = [WalkConfig(seed=seed) for seed in range(3)]
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError, match="a bug"):
        patched.setattr(Recorder, "reported", reported)
        sweep(tmp_path, configs)
    path = only_run(tmp_path)
    table = pd.read_csv(path / "results.csv")
    assert list(table["status"]) == ["done", "interrupted", "interrupted"]
    assert table["walk/position"][0] == max(expected(configs[0]))
    command = re.search(r"run the rest with: (.*)", capsys.readouterr().out)[1]
    assert command.endswith(f"--resume {path}")
    result = sweep(tmp_path, configs, resume=str(path))
    assert list(result.table["status"]) == ["done"] * 3
    assert [positions(result, i) for i in range(3)] == [expected(config) for config in configs]


@pytest.mark.parametrize("file", ["best.pt.next", "last.pt"])
def test_a_signal_in_the_middle_of_a_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """The save is completed, the run ends after the report, and goes on from there."""
    write, saves = StoragePath.write, itertools.count(1)

    def interrupted(path: StoragePath, content: bytes) -> None:
        if path.name == file and next(saves) == 1:
            signal.raise_signal(signal.SIGTERM)
        write(path, content)

    configs = [WalkConfig(seed=seed) for seed in range(2)]
    with monkeypatch.context() as patched:
        patched.setattr(StoragePath, "write", interrupted)
        patched.setattr("labs.runtime.sweep.BATCH_SECONDS", 0.0)
        result = sweep(tmp_path, configs, checkpoint_interval=0)
    assert signals.received() == signal.SIGTERM
    assert list(result.table["status"]) == ["interrupted", "interrupted"]
    assert positions(result, 0) == expected(configs[0])[:1]
    assert load_checkpoint(result.checkpoint(0))["step"] == 1
    result = sweep(tmp_path, configs, resume=str(only_run(tmp_path)))
    assert list(result.table["status"]) == ["done", "done"]
    assert [positions(result, i) for i in range(2)] == [expected(config) for config in configs]


@dataclass(frozen=True)
class Holding:
    mib: int = 0
    fails: bool = False


def hold(config: Holding, resume: Checkpoint | None = None, *, once: Path) -> Iterator[Report]:
    """Holds so much memory for a moment, unless it goes on from a checkpoint."""
    if resume is None:
        np.ones(config.mib * 2**20, np.uint8)
        yield Report(1, {"val/score": 1.0}, lambda: {"step": 1})
    if config.fails and not once.exists():
        once.touch()
        raise RuntimeError("planted")
    yield Report(2, {"val/score": 2.0}, lambda: {"step": 2})


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_the_row_has_the_peak_of_this_trial_over_all_sessions(tmp_path: Path) -> None:
    configs = [Holding(500, fails=True), Holding(100), Holding(300)]

    def run(**options: str) -> pd.DataFrame:
        runtime = RuntimeOptions(
            run_root=str(tmp_path), local_mode=True, checkpoint_interval=0, **options
        )
        with open_run("hold", Config(), runtime) as run:
            once = {"once": tmp_path / "once"}
            run_grid(hold, configs, run=run, objective=Objective("val/score"), shared=once)
        return pd.read_csv(run.path / "results.csv")

    first = run()
    assert list(first["status"]) == ["failed", "done", "done"]
    (directory,) = (tmp_path / "hold").iterdir()
    second = run(resume=str(directory))
    assert list(second["status"]) == ["done"] * 3
    for table in (first, second):  # the second session of the first trial holds nothing
        high, low, middle = table["peak_gib"]
        assert 0.15 < middle - low < 0.25
        assert 0.15 < high - middle < 0.25
        assert set(table["peak_gpu_gib"]) == {0.0}
    assert list(first["peak_gib"]) == list(second["peak_gib"])


@pytest.mark.slow
def test_a_run_extended_twice_equals_the_large_grid(tmp_path: Path) -> None:
    """Keyed by config, apart from number, name and seconds."""

    def grid(seeds: int, steps: tuple[int, ...]) -> list[WalkConfig]:
        return [WalkConfig(seed=s, steps=n) for n in steps for s in range(seeds)]

    sweep(tmp_path / "grown", grid(2, (3, 5)))
    run = str(only_run(tmp_path / "grown"))
    names = [trial["name"] for trial in json.loads(Path(run, "config.json").read_text())["trials"]]
    touched = {p: p.stat().st_mtime_ns for p in Path(run, "checkpoints").rglob("*.pt")}
    sweep(tmp_path / "grown", grid(3, (5, 3)), resume=run)
    grown = sweep(tmp_path / "grown", grid(3, (4, 3, 5)), resume=run)
    assert {p: p.stat().st_mtime_ns for p in touched} == touched  # those were not run again
    assert list(grown.table["name"][:4]) == names
    assert list(grown.table["trial"]) == list(range(9))
    once = sweep(tmp_path / "once", grid(3, (4, 3, 5)))

    def keyed(result: GridResult) -> tuple[pd.DataFrame, pd.DataFrame]:
        table = result.table.drop(columns=["name", "seconds", "peak_gib", "checkpoint"])
        history = result.history.merge(table[["trial", "seed", "steps"]], on="trial")
        keys = ["seed", "steps"]
        return (
            table.drop(columns="trial").sort_values(keys).reset_index(drop=True),
            history.drop(columns=["trial", "seconds"])
            .sort_values([*keys, "step"])
            .reset_index(drop=True),
        )

    for first, second in zip(keyed(grown), keyed(once), strict=True):
        pd.testing.assert_frame_equal(first, second)
    described = json.loads(Path(run, "config.json").read_text())
    assert [len(session["command"]) > 0 for session in described["resumed"]] == [True, True]
    assert [session["trials"] for session in described["resumed"]] == [6, 9]


def test_other_trials_and_other_data_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    sweep(tmp_path, [WalkConfig(seed=1), WalkConfig(seed=2)])
    run = only_run(tmp_path)

    def written() -> dict[Path, int]:  # who wants to write takes the lease first
        found = (p for p in run.rglob("*") if "lease" not in p.parts and p.is_file())
        return {p: p.stat().st_mtime_ns for p in found}

    before = written()
    with pytest.raises(InputError, match=r"`pause` is 0\.1 here and 0\.0 in trial 000-seed=1"):
        changed = [WalkConfig(seed=1, pause=0.1), WalkConfig(seed=2)]
        sweep(tmp_path, changed, resume=str(run))
    with pytest.raises(InputError, match="the data offset are not those"):
        both = [WalkConfig(seed=1), WalkConfig(seed=2)]
        sweep(tmp_path, both, resume=str(run), shared={"offset": OFFSET + 1e-9})
    assert written() == before


def test_results_are_there_while_the_run_goes_on(tmp_path: Path) -> None:
    seen: list[pd.DataFrame] = []

    def look() -> None:
        deadline = time.monotonic() + 60
        while not seen and time.monotonic() < deadline:
            for path in tmp_path.glob("walk/*/results.csv"):
                seen.append(pd.read_csv(path))
            time.sleep(0.01)

    thread = threading.Thread(target=look)
    thread.start()
    sweep(tmp_path, [WalkConfig(seed=0, steps=3, pause=0.3), WalkConfig(seed=1)])
    thread.join()
    assert list(seen[0]["name"]) == ["000-steps=3-pause=0.3-seed=0"] or len(seen[0]) == 1
    assert list(seen[0]["status"]) == ["running"]


def test_asha_says_that_it_stops_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runtime = RuntimeOptions(run_root=str(tmp_path), local_mode=True, scheduler="asha")
    configs = [WalkConfig(seed=seed, steps=8) for seed in range(3)]
    with open_run("walk", Config(), runtime) as run:
        objective = Objective("walk/position", last_step=8)
        result = run_grid(walk, configs, run=run, objective=objective)
    assert list(result.table["status"]) == ["done"] * 3
    assert "asha has no effect" in capsys.readouterr().out


SCRIPT = """
    import os, sys, time
    from dataclasses import dataclass
    import tyro
    import labs.runtime.sweep
    from labs.runtime.cli import launch
    from labs.runtime.options import RuntimeOptions
    from labs.runtime.reports import Objective, Report
    from labs.runtime.directory.runs import open_run
    from labs.runtime.sweep import run_grid

    @dataclass(frozen=True)
    class Trial:
        seed: int = 0

    @dataclass(frozen=True)
    class Options:
        runtime: tyro.conf.OmitArgPrefixes[RuntimeOptions] = RuntimeOptions()

    def train(config, resume=None):
        for step in range(resume["step"] + 1 if resume else 1, 4):
            secret = 6 * 7 + config.seed
            {body}
            yield Report(step, {{"val/score": float(step)}}, lambda step=step: {{"step": step}})

    def main(options):
        begun = time.monotonic()
        with open_run("own", options, options.runtime) as run:
            result = run_grid(
                train, [Trial(0), Trial(1)], run=run, objective=Objective("val/score")
            )
        print("ray" if labs.runtime.sweep.ray.is_initialized() else "no ray", flush=True)
        return result.exit_status

    launch(main, Options)
"""


def start(tmp_path: Path, body: str, **streams: Any) -> subprocess.Popen[bytes]:
    script = tmp_path / "own.py"
    script.write_text(textwrap.dedent(SCRIPT).format(body=body))
    options = ["--local-mode", "--run-root", str(tmp_path)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONBREAKPOINT"}
    environment |= {"TERM": "dumb", "COLUMNS": "200"}
    return subprocess.Popen([sys.executable, script, *options], env=environment, **streams)


class Terminal:
    """A process on a pseudo-terminal, and what it has written."""

    def __init__(self, tmp_path: Path, body: str) -> None:
        self.fd, other = pty.openpty()
        self.process = start(tmp_path, body, stdin=other, stdout=other, stderr=other)
        os.close(other)
        self.text = ""

    def expect(self, pattern: str, timeout: float = 120.0) -> None:
        """Read until the pattern comes, and forget what came before its end."""
        deadline = time.monotonic() + timeout
        while not (found := re.search(pattern, self.text)):
            ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no {pattern!r} in {self.text!r}"
            try:
                self.text += os.read(self.fd, 4096).decode(errors="replace")
            except OSError:  # the process has gone
                raise AssertionError(f"no {pattern!r} in {self.text!r}") from None
        self.text = self.text[found.end() :]


@pytest.mark.slow
def test_a_breakpoint_stops_in_a_trial(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "if config.seed == 1 and step == 2: breakpoint()")
    terminal.expect(r"\(Pdb\) ")
    os.write(terminal.fd, b"p secret, step\n")
    terminal.expect(r"\(43, 2\)")
    terminal.expect(r"\(Pdb\) ")
    os.write(terminal.fd, b"c\n")
    terminal.expect("no ray")
    assert terminal.process.wait(60) == 0
    table = pd.read_csv(next((tmp_path / "own").iterdir()) / "results.csv")
    assert list(table["status"]) == ["done", "done"]


@pytest.mark.slow
def test_leaving_the_debugger_ends_the_run(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, "if step == 2: breakpoint()")
    terminal.expect(r"\(Pdb\) ")
    os.write(terminal.fd, b"q\n")
    terminal.expect("left the debugger: the run ends here")
    terminal.expect("interrupted with 2 of 2 trials not finished")
    terminal.expect("no ray")
    assert terminal.process.wait(60) == 1


@pytest.mark.slow
def test_an_interrupt_ends_the_run_after_the_report(tmp_path: Path) -> None:
    process = start(tmp_path, "time.sleep(1)", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("own/*/tensorboard/*/reports.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    (run,) = (tmp_path / "own").iterdir()
    table = pd.read_csv(run / "results.csv")
    assert set(table["status"]) == {"interrupted"}
    best = load_checkpoint(run / "checkpoints" / table["name"][0] / "best.pt")
    assert best["step"] == table["step"][0]
    command = re.search(r"run the rest with: (.*)", out.decode())[1]
    done = subprocess.run(command, shell=True, check=False, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for path in sorted((run / "tensorboard").glob("0*/reports.jsonl")):
        assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3]


@dataclass(frozen=True)
class ScoreConfig:
    last: str = "val/score"
    """What the last report has."""
    first: str = "fold/score"
    seed: int = 0


def folds(config: ScoreConfig, resume: Checkpoint | None = None) -> Iterator[Report]:
    yield Report(1, {config.first: 1.0})
    yield Report(2, {config.last: 1.5})


@pytest.mark.parametrize(
    ("configs", "always", "told"),
    [
        (
            [ScoreConfig("val/points", seed=seed) for seed in range(3)],
            True,
            ["fold/score"],
        ),  # once
        ([ScoreConfig(first="val/score"), ScoreConfig(first="val/score", seed=1)], True, []),
        ([ScoreConfig(), ScoreConfig(seed=1)], False, []),  # where it is not due in each
    ],
)
def test_a_first_report_without_the_metric_is_told_once(
    configs: list[ScoreConfig],
    always: bool,
    told: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("labs.runtime.sweep.BATCH_SECONDS", 0.0)  # each report on its own
    with open_run("fold", Config(), RuntimeOptions(run_root=str(tmp_path), local_mode=True)) as run:
        run_grid(folds, configs, run=run, objective=Objective("val/score", in_every_report=always))
    line = r"val/score is not among the metrics that \S+ has reported so far: (.*)"
    assert re.findall(line, capsys.readouterr().out) == told
