"""Who may write a run: one driver, and never a dead one for ever."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from s3_server import S3Server, s3_server

from labs.runtime.directory import lease as leases
from labs.runtime.directory.lease import TAKEOVER_SECONDS, Holder, Lease, LeaseLost
from labs.runtime.directory.storage import StoragePath
from labs.runtime.errors import InputError


class Clock:
    """Time that passes only when somebody sleeps; others act in between."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events: list[tuple[float, object]] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        due = [event for event in self.events if event[0] <= self.now]
        self.events = [event for event in self.events if event[0] > self.now]
        for _, action in due:
            action()  # type: ignore[operator]  # a callable


def elsewhere(pid: int = 7, host: str = "other") -> Holder:
    return dataclasses.replace(Holder.this_process(), host=host, machine=host, pid=pid)


def held(directory: Path, holder: Holder, number: int = 1) -> Path:
    path = directory / "lease" / f"{number:06d}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(dataclasses.asdict(holder)))
    return path


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "lease").iterdir())


def test_a_run_that_this_machine_is_writing_is_refused_at_once(tmp_path: Path) -> None:
    clock = Clock()
    first = Lease(StoragePath(tmp_path))
    first.acquire()
    with pytest.raises(InputError, match=rf"is being written by .*process {os.getpid()}"):
        Lease(StoragePath(tmp_path), clock=clock, sleep=clock.sleep).acquire()
    assert clock.now == 0
    first.release()
    Lease(StoragePath(tmp_path), clock=clock, sleep=clock.sleep).acquire()
    assert clock.now == 0
    assert files(tmp_path) == ["000002.json"]


def test_the_lease_of_a_dead_process_of_this_machine_is_taken_over_at_once(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for pid, started in ((gone.pid, "1"), (os.getpid(), "another start of the same number")):
        path = held(tmp_path, dataclasses.replace(Holder.this_process(), pid=pid, started=started))
        clock = Clock()
        Lease(StoragePath(tmp_path), clock=clock, sleep=clock.sleep).acquire()
        assert clock.now == 0 and not path.exists()
        for left in (tmp_path / "lease").iterdir():
            left.unlink()


def test_a_silent_lease_is_taken_over_by_the_clock_of_the_waiting_driver(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held(tmp_path, elsewhere())
    clock = Clock()
    Lease(StoragePath(tmp_path), clock=clock, sleep=clock.sleep).acquire()
    assert TAKEOVER_SECONDS <= clock.now < TAKEOVER_SECONDS + 5
    assert (
        "was not released by other (process 7): waiting up to 90 seconds" in capsys.readouterr().out
    )


@pytest.mark.parametrize("at", [1.0, 19.0, 88.0])
def test_a_lease_that_is_renewed_is_never_taken_over(tmp_path: Path, at: float) -> None:
    holder = elsewhere()
    path = held(tmp_path, holder)
    clock = Clock()
    renewed = json.dumps(dataclasses.asdict(dataclasses.replace(holder, count=1)))
    clock.events = [(at, lambda: path.write_text(renewed))]
    with pytest.raises(InputError, match="is being written by other"):
        Lease(StoragePath(tmp_path), clock=clock, sleep=clock.sleep).acquire()
    assert files(tmp_path) == ["000001.json"]


def test_a_lease_that_is_released_during_the_wait_is_taken_over_at_once(tmp_path: Path) -> None:
    holder = elsewhere()
    path = held(tmp_path, holder)
    clock = Clock()
    released = json.dumps(dataclasses.asdict(dataclasses.replace(holder, released=True)))
    clock.events = [(10.0, lambda: path.write_text(released))]
    Lease(StoragePath(tmp_path), clock=clock, sleep=clock.sleep).acquire()
    assert 10 <= clock.now < 15


@pytest.mark.parametrize("content", ["", "{", '{"token": "x"}', "[1]"])
def test_a_truncated_lease_file_blocks_nobody(tmp_path: Path, content: str) -> None:
    path = held(tmp_path, elsewhere())
    path.write_text(content)
    Lease(StoragePath(tmp_path)).acquire()
    assert files(tmp_path) == ["000002.json"]


def test_of_many_new_drivers_one_wins_in_any_order(tmp_path: Path) -> None:
    rng = random.Random(4)
    for trial in range(30):
        directory = tmp_path / str(trial)
        directory.mkdir()
        if trial % 2:
            held(directory, dataclasses.replace(elsewhere(), released=True), number=trial)
        winners: list[Lease] = []
        errors: list[str] = []
        start = threading.Barrier(4)

        def compete(pause: float, directory: Path = directory, start: object = start) -> None:
            start.wait()  # type: ignore[attr-defined]  # a barrier
            threading.Event().wait(pause)
            own = Lease(StoragePath(directory))
            try:
                own.acquire()
                winners.append(own)  # noqa: B023  joined below
            except InputError as error:
                errors.append(str(error))  # noqa: B023

        threads = [
            threading.Thread(target=compete, args=[rng.choice([0, 0, 1e-3])]) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(winners), len(errors)) == (1, 3)
        assert len(files(directory)) == 1


def test_a_suspended_new_driver_does_not_win_an_old_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held(tmp_path, dataclasses.replace(elsewhere(), released=True))
    late = Lease(StoragePath(tmp_path))
    create = StoragePath.create

    def slow(path: StoragePath, content: bytes) -> bool | None:
        monkeypatch.setattr(StoragePath, "create", create)
        for _ in range(2):  # two others come; the second one stays
            other = Lease(StoragePath(tmp_path))
            other.acquire()
            if _ == 0:
                other.release()
        return create(path, content)

    monkeypatch.setattr(StoragePath, "create", slow)
    with pytest.raises(InputError, match="is being written"):
        late.acquire()
    assert files(tmp_path) == ["000003.json"]


def test_a_driver_whose_lease_was_taken_over_stops(tmp_path: Path) -> None:
    clock, lost = Clock(), []
    first = Lease(StoragePath(tmp_path), on_lost=lambda: lost.append(1), clock=clock)
    first.acquire()
    first.require()
    held(tmp_path, elsewhere(pid=9), number=2)
    clock.now += 2 * leases.RENEW_SECONDS - 1
    first.require()  # renewed not long ago: no look at the storage
    clock.now += 2
    with pytest.raises(LeaseLost, match=r"taken over by other \(process 9\)"):
        first.require()
    assert lost == [1]
    first.renew()
    first.release()
    content = json.loads((tmp_path / "lease" / "000002.json").read_text())
    assert content["pid"] == 9 and not content["released"]  # nothing was written over it


def test_renewing_counts_and_survives_an_outage_of_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Lease(StoragePath(tmp_path))
    mine.acquire()
    mine.renew()
    with monkeypatch.context() as patch:
        patch.setattr(StoragePath, "files", lambda _: (_ for _ in ()).throw(OSError("away")))
        mine.renew()
        mine.require()
    mine.renew()
    assert json.loads((tmp_path / "lease" / "000001.json").read_text())["count"] == 2


def test_on_s3_a_conditional_put_decides() -> None:
    with s3_server() as server:
        assert isinstance(server, S3Server)
        for uri in (
            "s3://results/runs/a",
            f"s3://testing:testing@results/runs/b?scheme=http&endpoint_override=127.0.0.1:{server.port}",
        ):
            run = StoragePath(uri)
            assert run.create(b"1") is True
            assert run.create(b"2") is False
            assert run.read() == b"1"
            mine = Lease(run)
            mine.acquire()
            with pytest.raises(InputError, match="is being written"):
                Lease(run).acquire()
            mine.release()
            Lease(run).acquire()


def test_other_object_stores_have_no_lease_and_a_warning_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(StoragePath, "create", lambda *_: None)
    for _ in range(2):
        found = Lease(StoragePath(tmp_path))
        found.acquire()
        found.require()
        found.release()
    assert "has no lease" in capsys.readouterr().out
