"""Sweeps on S3 (moto's server on loopback), storage that goes away, and a disk that fills up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray
from procedures import WalkConfig, walk
from s3_server import S3Server, s3_server

from labs.runtime.checkpoints import load_checkpoint
from labs.runtime.directory.runs import open_run
from labs.runtime.directory.storage import retry_io
from labs.runtime.errors import InputError
from labs.runtime.options import RuntimeOptions
from labs.runtime.reports import Objective
from labs.runtime.results import GridResult
from labs.runtime.sweep import run_grid

TESTS = Path(__file__).parent.parent

OUTAGE = float(os.environ.get("OUTAGE_SECONDS", "9"))
"""Longer than the trials take, and than pyarrow itself tries; OUTAGE_SECONDS=60 for a minute."""


@pytest.fixture(scope="module")
def storage(without_ray: None) -> Iterator[S3Server]:
    """An S3 server with a bucket ``results``, and a private Ray whose workers know it."""
    with s3_server() as server:
        ray.init(
            address="local",
            num_cpus=2,
            num_gpus=0,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
        )
        yield server
        ray.shutdown()


@dataclass(frozen=True)
class Config:
    pass


def sweep(
    root: str, configs: list[WalkConfig], *, name: str | None = None, **options: object
) -> GridResult:
    with open_run("walk", Config(), RuntimeOptions(run_root=root, run_name=name, **options)) as run:
        return run_grid(walk, configs, run=run, objective=Objective("walk/position", last_step=8))


def positions(config: WalkConfig) -> list[float]:
    return [report.metrics["walk/position"] for report in walk(config)]


@pytest.mark.slow
def test_a_sweep_on_s3_and_its_resumption(
    storage: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    once = str(tmp_path / "once")
    configs = [WalkConfig(seed=s, fail_at=4 if s == 1 else None, once=once) for s in range(3)]
    first = sweep("s3://results/runs", configs, name="a", checkpoint_interval=0)
    assert list(first.table["status"]) == ["done", "failed", "done"]
    names = list(first.table["name"])
    written = storage.names()
    assert [name for name in written if name.endswith(".pt")] == [
        f"runs/walk/a/checkpoints/{name}/{file}"
        for name in names
        for file in ("best.pt", "last.pt")
    ]
    assert "runs/walk/a/config.json" in written
    best = load_checkpoint(first.checkpoint(0), "test.walk")
    assert float(best["position"]) == max(positions(configs[0]))
    # Curves and tables are with the driver; another machine has the checkpoints only.
    assert (tmp_path / "runs/walk/a/results.csv").exists()
    assert not (tmp_path / "runs/walk/a/checkpoints").exists()
    second = sweep("s3://results/runs", configs, resume="runs/walk/a", checkpoint_interval=0)
    assert list(second.table["status"]) == ["done"] * 3
    history = second.history[second.history["trial"] == 1]
    assert list(history["step"]) == [1, 2, 3, 4, 5]
    assert list(history["walk/position"]) == positions(WalkConfig(seed=1))
    last = load_checkpoint(f"s3://results/runs/walk/a/checkpoints/{names[1]}/last.pt")
    assert last["step"] == 5


@pytest.mark.slow
def test_an_outage_of_storage_fails_no_trial(
    storage: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training goes on meanwhile; the end of a trial waits for the storage."""
    monkeypatch.chdir(tmp_path)
    configs = [WalkConfig(seed=s, steps=6, pause=0.5) for s in range(2)]
    outage: list[float] = []

    def interrupt() -> None:
        while sum("walk/b" in key and key.endswith("last.pt") for key in storage.names()) < 2:
            time.sleep(0.1)
        storage.away()
        begun = time.monotonic()
        time.sleep(OUTAGE)
        storage.back()
        outage.append(time.monotonic() - begun)

    thread = threading.Thread(target=interrupt)
    thread.start()
    result = sweep("s3://results/runs", configs, name="b", checkpoint_interval=0)
    thread.join()
    assert outage[0] >= OUTAGE
    assert list(result.table["status"]) == ["done", "done"]
    for index, config in enumerate(configs):
        history = result.history[result.history["trial"] == index]
        assert list(history["walk/position"]) == positions(config)
        name = result.table["name"][index]
        last = load_checkpoint(f"s3://results/runs/walk/b/checkpoints/{name}/last.pt")
        assert last["step"] == 6


@pytest.mark.parametrize("root", ["s3://there-is-no-such-bucket/runs", "nonsense://results/runs"])
def test_storage_that_cannot_be_used_is_refused_before_anything_is_written(
    storage: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"`run_root` {root} cannot be written: "):
        sweep(root, [WalkConfig()])
    assert list(tmp_path.iterdir()) == []


def test_retrying_ends(tmp_path: Path) -> None:
    tries: list[float] = []

    def fail() -> None:
        tries.append(time.monotonic())
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        retry_io(fail, timeout=0.8, first_pause=0.1)
    assert len(tries) == 4  # after 0, 0.1, 0.3 and 0.7 seconds

    def forbidden() -> None:
        tries.append(time.monotonic())
        raise PermissionError(13, "Permission denied")

    with pytest.raises(PermissionError):
        retry_io(forbidden, timeout=60)
    assert len(tries) == 5  # waiting does not change that


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="a small disk of its own needs root on Linux",
)
@pytest.mark.slow
def test_a_disk_that_is_full_for_a_while_fails_no_trial(tmp_path: Path) -> None:
    """The driver's disk is full in mid-sweep and has room again before the end of the sweep.

    In local mode: how the trials run makes no difference to the driver's files.
    """
    code = textwrap.dedent("""
        import glob, os, threading, time
        from dataclasses import dataclass
        from pathlib import Path
        import labs.runtime
        from labs.runtime.directory import recorder
        from procedures import WalkConfig, walk
        from labs.runtime.options import RuntimeOptions
        from labs.runtime.reports import Objective
        from labs.runtime.directory.runs import open_run
        from labs.runtime.sweep import run_grid

        @dataclass(frozen=True)
        class Config: pass

        root = Path(os.environ["SMALL_DISK"])
        noticed = threading.Event()
        say = recorder.say

        def listen(message):
            say(message)
            if "cannot write" in message:
                noticed.set()

        recorder.say = listen

        def fill():
            # unlike Path.glob this one does not mind files that vanish while it looks
            while not glob.glob(f"{root}/walk/*/tensorboard/*/reports.jsonl"):
                time.sleep(0.05)
            deadline, reason = time.monotonic() + 60, None
            with open(root / "filler", "wb", buffering=0) as file:
                # again and again: files that others replace or give up make room for a moment
                while not (reason and noticed.is_set()) and time.monotonic() < deadline:
                    try:
                        file.write(bytes(4096))
                    except OSError as error:
                        reason = error.strerror
                        time.sleep(0.005)
                print("full:", reason, flush=True)
            time.sleep(2)
            (root / "filler").unlink()

        threading.Thread(target=fill).start()
        configs = [
            WalkConfig(seed=s, steps=4 + 12 * s, pause=0.3, note_length=20_000) for s in range(2)
        ]
        options = RuntimeOptions(run_root=str(root), local_mode=True, checkpoint_interval=0)
        with open_run("walk", Config(), options) as run:
            result = run_grid(walk, configs, run=run, objective=Objective("walk/position"))
        for index, config in enumerate(configs):
            expected = [r.metrics["walk/position"] for r in walk(config)]
            history = result.history[result.history["trial"] == index]
            assert list(history["walk/position"]) == expected, history
        print("statuses", list(result.table["status"]))
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        for name, config in zip(result.table["name"], configs):
            events = EventAccumulator(str(run.path / "tensorboard" / name)).Reload()
            steps = [event.step for event in events.Scalars("walk/position")]
            assert steps == list(range(1, config.steps + 1)), steps
        print("curves complete")
    """)
    disk = tmp_path / "disk"
    disk.mkdir()
    command = f'mount -t tmpfs -o size=1m none {disk} && exec {sys.executable} -c "$CODE"'
    done = subprocess.run(
        ["unshare", "--mount", "bash", "-c", command],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env={
            **os.environ,
            "CODE": code,
            "SMALL_DISK": str(disk),
            "PYTHONPATH": str(TESTS / "runtime"),
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "full: No space left on device\n" in done.stdout, done.stderr[-3000:]
    assert "(No space left on device): results stay in memory" in done.stdout, done.stdout
    assert "statuses ['done', 'done']\ncurves complete\n" in done.stdout, done.stdout
