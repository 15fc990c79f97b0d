"""A run's directory belongs to one run."""

from __future__ import annotations

import contextlib
import errno
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from labs.runtime.directory import runs
from labs.runtime.directory.runs import open_run
from labs.runtime.errors import InputError
from labs.runtime.options import RuntimeOptions


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_runs_that_begin_in_the_same_second_have_directories_of_their_own(tmp_path: Path) -> None:
    """As the tasks of an array job do, which share a disk and give no names."""
    options = RuntimeOptions(run_root=str(tmp_path / "runs"))
    with contextlib.ExitStack() as stack:
        opened = [
            stack.enter_context(open_run("walk", RuntimeOptions(max_failures=n), options))
            for n in range(4)
        ]
        assert len({run.path for run in opened}) == 4
        for run in (opened[2], opened[0]):
            run.start()
    assert names(tmp_path / "runs" / "walk") == sorted(
        run.path.name for run in (opened[0], opened[2])
    )
    for number in (0, 2):
        described = json.loads((opened[number].path / "config.json").read_text())
        assert described["config"]["max_failures"] == number


def test_a_run_that_does_not_begin_leaves_nothing(tmp_path: Path) -> None:
    options = RuntimeOptions(run_root=str(tmp_path / "some" / "runs"), run_name="mine")
    with pytest.raises(ZeroDivisionError), open_run("walk", options, options):
        assert names(tmp_path / "some" / "runs" / "walk") == ["mine"]
        with pytest.raises(InputError, match="`run_name` mine already exists"):
            open_run("walk", options, options).__enter__()
        raise ZeroDivisionError
    assert names(tmp_path) == []


@pytest.mark.parametrize("root", ["s3:/bucket/runs", "s3:bucket/runs", "file:/mnt/runs"])
def test_a_uri_with_a_slash_too_few_is_no_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: str
) -> None:
    monkeypatch.chdir(tmp_path)
    options = RuntimeOptions(run_root=root)
    with pytest.raises(InputError, match=f"`run_root` {root} lacks a slash: write s3://"):
        open_run("walk", options, options).__enter__()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("root", "name", "message"),
    [
        ("file", None, "Not a directory"),
        ("file/sub", "mine", "Not a directory"),
        ("x" * 300, None, "File name too long"),
        ("new", "x" * 300, "File name too long"),
        ("caf\udce9", None, "not valid UTF-8"),
        ("new", "caf\udce9", "not valid UTF-8"),
        ("/proc/nothing", None, "No such file or directory"),
    ],
)
def test_a_place_that_cannot_be_is_refused_at_once(
    tmp_path: Path, root: str, name: str | None, message: str
) -> None:
    (tmp_path / "file").touch()
    options = RuntimeOptions(run_root=str(tmp_path / root), run_name=name)
    with pytest.raises(InputError, match=f"`run_root` .* cannot be written: .*{message}"):
        open_run("walk", options, options).__enter__()
    assert names(tmp_path) == ["file"]


def test_a_run_that_can_no_longer_be_written_is_not_resumed(tmp_path: Path) -> None:
    options = RuntimeOptions(run_root=str(tmp_path), run_name="mine")
    with open_run("walk", options, options) as run:
        run.start()
    before = (run.path / "config.json").read_bytes()
    shutil.rmtree(run.path / "lease")
    (run.path / "lease").touch()
    again = RuntimeOptions(run_root=str(tmp_path), resume=str(run.path))
    with pytest.raises(InputError, match=f"^{run.path} cannot be written: File exists$"):
        open_run("walk", again, again).__enter__()
    assert (run.path / "config.json").read_bytes() == before


def test_the_command_for_the_curves_is_quoted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "my runs (x) #1"
    options = RuntimeOptions(run_root=str(root), run_name="mine")
    with open_run("walk", options, options) as run:
        run.start()
        run.say_curves()
    (line,) = capsys.readouterr().out.splitlines()
    said, _, command = line.partition(": ")
    assert said == "curves"
    assert shlex.split(command) == ["tensorboard", "--logdir", f"{root}/walk/mine/tensorboard"]


@pytest.mark.parametrize("place", ["block", "end"])
def test_a_disk_that_is_full_after_the_trials_is_one_sentence_and_the_run_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Tables and figures come last; TensorBoard's writer tells of a full disk only when it is closed."""
    options = RuntimeOptions(run_root=str(tmp_path), run_name="r")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    said = rf"^{tmp_path}/walk/r cannot be written: No space left on device; .*--resume {tmp_path}/walk/r$"
    with pytest.raises(InputError, match=said), open_run("walk", options, options) as run:
        run.add_text("notes", "some")
        monkeypatch.setattr(run.writer, "close", full)
        if place == "block":
            full()
    monkeypatch.undo()
    with open_run("walk", options, RuntimeOptions(resume=str(run.path))):
        pass
    with (
        pytest.raises(OSError, match="elsewhere"),
        open_run("walk", options, RuntimeOptions(run_root=str(tmp_path))),
    ):
        raise OSError(errno.ENOSPC, "elsewhere", "/cache/weights")
    with (
        pytest.raises(FileNotFoundError),
        open_run("walk", options, RuntimeOptions(run_root=str(tmp_path))) as run,
    ):
        (run.path / "nothing").read_text()


def test_a_run_that_cannot_be_created_has_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written into it later, such as a report of it."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    options = RuntimeOptions(run_root=str(tmp_path))
    with open_run("walk", options, options) as run:
        monkeypatch.setattr(runs, "write_atomically", full)
        with pytest.raises(InputError, match="`run_root` .* cannot be written: No space left on"):
            run.start()
        assert not run.started


FULL = """
import sys, threading
from pathlib import Path
from labs.runtime.directory.runs import open_run
from labs.runtime.errors import InputError
from labs.runtime.options import RuntimeOptions
options = RuntimeOptions(run_root=sys.argv[1])
try:
    with open_run("walk", options, options) as run:
        file = Path(run.writer.file_writer.event_writer._file_name)
        file.unlink(missing_ok=True)
        file.symlink_to("/dev/full")
        run.add_text("notes", "x" * 100_000)
except InputError as error:
    print(error)
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_tensorboard_s_thread_prints_no_traceback(tmp_path: Path) -> None:
    """Its error comes back where the run is closed; of other threads it is printed as ever."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "cannot be written: No space left on device; make room there" in done.stdout
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")
