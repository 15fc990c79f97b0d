"""The limits of a log, the files between processes, and what is left of a log that is read back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from labs.runtime.output.log_file import Limiter, LogFile, last_lines, log_path
from labs.runtime.output.spool import Spool, create


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def note(count: int) -> bytes:
    were = "lines were" if count != 1 else "line was"
    return (
        f"[labs: {count:,} {were} dropped here: a trial may print 200 lines and 64 KiB a second]\n"
    ).encode()


def test_output_below_the_rates_is_never_dropped() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    for second in range(200):
        clock.now = float(second)
        data = b"".join(b"%d %d\n" % (second, line) for line in range(200))
        assert limiter.keep(data) == data
    assert limiter.finish() == b""


def test_excess_lines_are_dropped_and_counted() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    lines = [b"%d\n" % n for n in range(30_000)]
    assert limiter.keep(b"".join(lines[:12_000])) == b"".join(lines[:10_000])
    clock.now = 0.5  # not a second's worth yet
    assert limiter.keep(b"".join(lines[12_000:12_500])) == b""
    clock.now = 1.0
    kept = limiter.keep(b"".join(lines[12_500:13_000]))
    assert kept == note(2_500) + b"".join(lines[12_500:12_700])
    assert limiter.finish() == note(300)


def test_a_line_is_dropped_as_a_whole_and_the_note_stands_on_its_own() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    assert limiter.keep(b"begun") == b"begun"
    assert limiter.keep(b"x" * 2**20) == b""  # too long, and it goes on:
    clock.now = 100.0
    assert limiter.keep(b"yyy") == b""
    assert limiter.keep(b"zzz\nnext\n") == b"\n" + note(1) + b"next\n"
    assert limiter.finish() == b""


def test_a_line_that_was_cut_at_the_end_counts() -> None:
    limiter = Limiter(Clock())
    lines = b"".join(b"%d\n" % n for n in range(10_002))
    limiter.keep(lines + b"no end")
    assert limiter.finish() == note(3)


def test_a_long_line_counts_by_its_bytes() -> None:
    clock = Clock()
    limiter = Limiter(clock)
    line = b"x" * (2**16 - 1) + b"\n"
    assert limiter.keep(20 * line) == 16 * line
    clock.now = 1.0
    assert limiter.keep(2 * line) == note(4) + line


def test_output_is_written_later_if_the_disk_is_full(tmp_path: Path) -> None:
    in_the_way = tmp_path / "logs"
    in_the_way.touch()
    log = LogFile(log_path(tmp_path, "a"))
    log.write(b"one\n")
    assert log.is_behind
    in_the_way.unlink()
    log.write(b"two\n")
    assert not log.is_behind
    assert log_path(tmp_path, "a").read_bytes() == b"one\ntwo\n"


def test_a_later_attempt_begins_with_a_line_of_its_own(tmp_path: Path) -> None:
    for text in (b"first, without an end", b"second\n", b"third\n"):
        LogFile(log_path(tmp_path, "a")).write(text)
    assert log_path(tmp_path, "a").read_bytes() == b"first, without an end\nsecond\nthird\n"


def test_the_last_lines_are_without_empty_ones_and_of_a_bar_the_last_state(tmp_path: Path) -> None:
    assert last_lines(tmp_path, "a") == []
    text = "0\n1\n\n  2\n 10%\r 20%\r100%\r\n" + 400 * "y" + "\n\n"
    LogFile(log_path(tmp_path, "a")).write(text.encode())
    assert last_lines(tmp_path, "a", count=3) == ["  2", "100%", 300 * "y"]


def test_a_spool_ends_with_the_last_process_that_writes_it(tmp_path: Path) -> None:
    path = str(tmp_path / "spool")
    file = create(path)
    child = subprocess.Popen(
        [sys.executable, "-c", "print('ready', flush=True); input(); print('child')"],
        stdin=subprocess.PIPE,
        stdout=file,
    )
    file.write(b"parent\n")
    spool = Spool(path)
    file.close()
    assert not spool.is_over()
    child.communicate(b"\n", timeout=60)
    assert spool.is_over()
    assert sorted(spool.read(0.0).split()) == [b"child", b"parent", b"ready"]
    assert os.listdir(tmp_path) == ["spool"]
    spool.close()


@pytest.mark.parametrize("everything", [False, True])
def test_an_incomplete_line_is_held_back_for_a_second(tmp_path: Path, everything: bool) -> None:
    file = create(str(tmp_path / "spool"))
    spool = Spool(str(tmp_path / "spool"))
    file.write(b"a\nb")
    if everything:
        assert spool.read(0.0, everything) == b"a\nb"
    else:
        assert [spool.read(at) for at in (0.0, 0.9, 1.1)] == [b"a\n", b"", b"b"]
    file.write(b"c\n")
    assert spool.read(1.2) == b"c\n"
    spool.close()


def test_a_file_that_was_read_for_long_is_emptied(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    file = create(str(path))
    spool = Spool(str(path))
    file.write(b"0123456\n" * 2**21)  # 16 MiB
    count = 0
    while data := spool.read(0.0):
        count += len(data)
    file.write(b"end\n")
    assert count == 2**24 and spool.read(0.0) == b"end\n"
    file.write(b"after\n")
    assert spool.read(0.0) == b"after\n"
    assert path.stat().st_size < 100
    spool.close()
