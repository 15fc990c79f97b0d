"""The driver's record does not die with the driver's machine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from procedures import WalkConfig, walk
from s3_server import S3Server, s3_server

from labs.runtime.directory import mirror
from labs.runtime.directory.lease import Lease
from labs.runtime.directory.mirror import Mirror, fetch_run, write_session
from labs.runtime.directory.runs import open_run
from labs.runtime.directory.storage import StoragePath
from labs.runtime.errors import InputError
from labs.runtime.options import RuntimeOptions
from labs.runtime.output.log_file import LogFile, log_path
from labs.runtime.reports import Objective
from labs.runtime.results import GridResult
from labs.runtime.sweep import run_grid

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Config:
    trials: int = 1


@pytest.fixture(scope="module")
def storage() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


def sweep(configs: list[WalkConfig], **options: object) -> GridResult:
    runtime = RuntimeOptions(local_mode=True, checkpoint_interval=0, **options)
    with open_run("walk", Config(len(configs)), runtime) as run:
        return run_grid(walk, configs, run=run, objective=Objective("walk/position"))


def steps(result: GridResult) -> dict[int, list[int]]:
    return {k: list(g["step"]) for k, g in result.history.groupby("trial")}


@pytest.mark.slow
def test_another_machine_resumes_and_extends_the_run(
    storage: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "first").mkdir()
    monkeypatch.chdir(tmp_path / "first")
    once = str(tmp_path / "once")
    configs = [WalkConfig(seed=3), WalkConfig(seed=4, fail_at=4, once=once, fail="raise")]
    first = sweep(configs, run_root="s3://results/runs", run_name="moved")
    assert list(first.table["status"]) == ["done", "failed"]
    here = tmp_path / "first" / "runs" / "walk" / "moved"
    record = {
        p.relative_to(here).as_posix(): p.read_bytes()
        for p in here.rglob("*")
        if p.is_file() and not p.name.startswith(".")
    }
    there = [n.removeprefix("runs/walk/moved/") for n in storage.names()]
    assert set(record) <= set(there)
    for name, content in record.items():
        assert StoragePath(f"s3://results/runs/walk/moved/{name}").read() == content

    shutil.rmtree(tmp_path / "first")
    (tmp_path / "second").mkdir()
    monkeypatch.chdir(tmp_path / "second")
    grown = [*configs, WalkConfig(seed=5)]
    second = sweep(grown, resume="s3://results/runs/walk/moved")
    assert list(second.table["status"]) == ["done"] * 3
    assert steps(second) == {trial: list(range(1, 6)) for trial in range(3)}
    apart = [report.metrics["walk/position"] for report in walk(WalkConfig(seed=4))]
    found = second.history[second.history["trial"] == 1]["walk/position"]
    assert list(found) == pytest.approx(apart)
    assert (tmp_path / "second/runs/walk/moved/results.csv").exists()


def test_the_newer_of_two_copies_is_taken(
    storage: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    remote = StoragePath("s3://results/runs/walk/copies")
    for lease, text in ((2, "of the second driver"), (1, "of the first")):
        (remote / "session.json").write(json.dumps({"lease": lease}).encode())
        (remote / "results.csv").write(text.encode())
        (remote / "checkpoints/a/last.pt").write(b"weights")
        path, root = fetch_run("s3://results/runs/walk/copies/")
        assert (path / "results.csv").read_text() == "of the second driver"
        assert not (path / "checkpoints").exists()
        assert root == "s3://results/runs"
    write_session(path, 3)  # this machine went on, and died before it could copy
    (path / "results.csv").write_text("of this machine")
    fetch_run("s3://results/runs/walk/copies")
    assert (path / "results.csv").read_text() == "of this machine"


def test_a_missing_run_is_one_sentence(
    storage: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="`resume` s3://results/runs/walk/no is not a run"):
        fetch_run("s3://results/runs/walk/no")
    with pytest.raises(InputError, match="cannot be read"):
        fetch_run("nonsense://results/runs/walk/no")


def test_only_changes_are_copied_and_an_outage_of_storage_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(mirror, "MIRROR_SECONDS", 0.02)
    source, target = tmp_path / "here", StoragePath(tmp_path / "there")
    (source / "tensorboard").mkdir(parents=True)
    (source / "tensorboard/a").write_text("1")
    (source / "checkpoints").mkdir()
    (source / "checkpoints/last.pt").write_text("x")
    written: list[str] = []
    write, away = StoragePath.write, [False]

    def watched(path: StoragePath, content: bytes) -> None:
        if away[0]:
            raise OSError("the storage is away")
        written.append(path.name)
        write(path, content)

    monkeypatch.setattr(StoragePath, "write", watched)
    made = Mirror(source, target)
    made.copy()
    made.copy()
    assert written == ["a"]
    away[0] = True
    made.start()
    (source / "b").write_text("2")
    time.sleep(0.3)
    away[0] = False
    time.sleep(0.3)
    assert written == ["a", "b"]
    (source / "b").write_text("22")
    made.close()
    assert written == ["a", "b", "b"]
    assert (tmp_path / "there/b").read_text() == "22"
    assert not (tmp_path / "there/checkpoints").exists()
    shown = capsys.readouterr().out
    assert shown.count("cannot be copied") == 1 and shown.count("again") == 1


@pytest.mark.slow
def test_a_killed_driver_is_replaced_on_another_machine(
    storage: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "from tests_mirror_driver import sweep, WalkConfig\n"
        "sweep([WalkConfig(seed=1, steps=60, pause=0.2)], run_root='s3://results/runs',"
        " run_name='killed')\n"
    )
    shutil.copy(__file__, tmp_path / "tests_mirror_driver.py")
    paths = [str(tmp_path), str(ROOT), str(ROOT / "tests/runtime"), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    first = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    record = StoragePath("s3://results/runs/walk/killed/tensorboard/000-trial/reports.jsonl")
    deadline = time.monotonic() + 90
    while (record.read() or b"").count(b"\n") < 5:
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    first.wait()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = WalkConfig(seed=1, steps=60, pause=0.2)
    second = sweep([config], resume="s3://results/runs/walk/killed")
    assert list(second.table["status"]) == ["done"]
    assert steps(second) == {0: list(range(1, 61))}
    expected = [r.metrics["walk/position"] for r in walk(WalkConfig(seed=1, steps=60))]
    assert list(second.history["walk/position"]) == pytest.approx(expected)


def test_what_trials_print_is_copied_too(tmp_path: Path) -> None:
    log = log_path(tmp_path / "run", "000-seed=0")
    mirror_ = Mirror(tmp_path / "run", StoragePath(tmp_path / "there"))
    for line in (b"first\n", b"second\n"):
        LogFile(log).write(line)
        mirror_.copy(everything=True)
        copied = tmp_path / "there" / "logs" / "000-seed=0.txt"
        assert copied.read_bytes() == log.read_bytes() and copied.read_bytes().endswith(line)


def test_a_name_that_another_machine_has_taken_is_refused(
    storage: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its trials would go on from the checkpoints of other configs."""
    options = RuntimeOptions(run_root="s3://results/runs", run_name="both")
    runs = []
    with contextlib.ExitStack() as stack:
        for number, machine in enumerate(("first", "second")):
            (tmp_path / machine).mkdir()
            monkeypatch.chdir(tmp_path / machine)
            runs.append(stack.enter_context(open_run("walk", Config(number), options)))
        runs[1].start()
        with pytest.raises(InputError, match="has just been created by another run"):
            runs[0].start()
    described = json.loads(StoragePath("s3://results/runs/walk/both/config.json").read())
    assert described["config"]["trials"] == 1
    assert not list((tmp_path / "first").iterdir())
    (tmp_path / "third").mkdir()
    monkeypatch.chdir(tmp_path / "third")
    with pytest.raises(InputError, match="both already exists in s3://results/runs/walk: .*resume"):
        open_run("walk", Config(2), options).__enter__()
    assert not list((tmp_path / "third").iterdir())


def test_who_may_not_write_a_run_leaves_its_record_alone(
    storage: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy that it has fetched is older than what the other driver has written since."""
    (tmp_path / "first").mkdir()
    monkeypatch.chdir(tmp_path / "first")
    table = StoragePath("s3://results/runs/walk/held/results.csv")
    acquire = Lease.acquire

    def late(lease: Lease) -> None:
        table.write(b"newer")
        acquire(lease)

    options = RuntimeOptions(run_root="s3://results/runs", run_name="held")
    with open_run("walk", Config(), options) as run:
        run.start()
        Mirror(run.path, run.storage).copy()
        table.write(b"older")
        (tmp_path / "second").mkdir()
        monkeypatch.chdir(tmp_path / "second")
        monkeypatch.setattr(Lease, "acquire", late)
        resumed = RuntimeOptions(resume="s3://results/runs/walk/held")
        with pytest.raises(InputError, match="is being written by"):
            open_run("walk", Config(), resumed).__enter__()
        copy = tmp_path / "second" / "runs" / "walk" / "held" / "results.csv"
        assert copy.read_bytes() == b"older"
        assert table.read() == b"newer"
