"""Storage paths: the same behaviour for local directories, shared ones and object stores."""

from __future__ import annotations

import errno
import pickle
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_server import S3Server, s3_server

from labs.runtime.directory.download import download_once, read_url
from labs.runtime.directory.storage import (
    StoragePath,
    reason,
    retry_io,
    short_name,
    write_atomically,
)
from labs.runtime.errors import InputError
from labs.runtime.loop import waiting


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as made:
        yield made


@pytest.fixture(params=["local", "shared", "s3", "s3 with its endpoint in the URI"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> StoragePath:
    """An empty directory, whose name has characters that a URI must quote."""
    name = f"a b%{random.randrange(10**9)}"
    if request.param == "local":
        return StoragePath(tmp_path) / name
    if request.param == "shared":
        return StoragePath(f"file://{tmp_path}") / name
    server = request.getfixturevalue("server")
    if request.param == "s3":
        return StoragePath("s3://results/top/") / name
    host = server.url.removeprefix("http://")
    request.getfixturevalue("monkeypatch").setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    return StoragePath(f"s3://results/top?endpoint_override={host}&scheme=http") / name


def test_files_are_written_read_listed_moved_and_deleted(directory: StoragePath) -> None:
    contents = {
        name: random.randbytes(random.randrange(1, 2000))
        for name in ("last.pt", "000-lr=0.1,depth=3/best.pt", "x/y/ä ö.txt", "q?#")
    }
    assert directory.files() == []
    assert (directory / "last.pt").read() is None
    assert not (directory / "last.pt").exists()
    for name, content in contents.items():
        (directory / name).write(b"older and longer" * 200)
        (directory / name).write(content)
    assert directory.files() == sorted(contents)
    assert {name: (directory / name).read() for name in contents} == contents
    assert directory.exists()
    assert (directory / "x").files() == ["y/ä ö.txt"]

    (directory / "last.pt").move(directory / "q?#")
    assert (directory / "q?#").read() == contents["last.pt"]
    with pytest.raises(OSError, match=r"last\.pt"):
        (directory / "last.pt").move(directory / "q?#")
    (directory / "q?#").delete()
    (directory / "q?#").delete()
    assert directory.files() == ["000-lr=0.1,depth=3/best.pt", "x/y/ä ö.txt"]


def test_a_path_can_be_copied_and_compared(directory: StoragePath) -> None:
    file = directory / "x" / "b=1,c.pt"
    assert file == directory / "x/b=1,c.pt"
    assert file.name == "b=1,c.pt"
    assert file.parent == directory / "x"
    file.write(b"1")
    for copy in (StoragePath(str(file)), StoragePath(file), pickle.loads(pickle.dumps(file))):
        assert copy == file
        assert copy.shared == file.shared
        assert copy.read() == b"1"


def test_which_storage_a_path_names(tmp_path: Path) -> None:
    assert StoragePath("runs").local == Path("runs")
    assert not StoragePath("runs").shared
    assert StoragePath("file:///mnt/my%20runs").local == Path("/mnt/my runs")
    assert StoragePath("file://localhost/mnt").local == Path("/mnt")
    assert StoragePath(tmp_path, shared=True).shared
    assert str(StoragePath("file:///mnt/a=1, b")) == "file:///mnt/a=1,%20b"
    assert str(StoragePath("S3://bucket/runs/") / "a") == "s3://bucket/runs/a"
    assert str(StoragePath("s3://b/runs?region=x") / "a") == "s3://b/runs/a?region=x"
    assert StoragePath("gs://bucket/runs").local is None
    with pytest.raises(InputError, match="write file:///mnt/runs"):
        StoragePath("file://mnt/runs")
    with pytest.raises(OSError, match="nonsense") as raised:
        StoragePath("nonsense://x/y").read()
    assert raised.value.errno == errno.EINVAL
    assert "\n" not in reason(raised.value)


def test_a_missing_bucket_is_not_retried(server: S3Server) -> None:
    path = StoragePath("s3://there-is-no-such-bucket/a")
    with pytest.raises(OSError, match="NO_SUCH_BUCKET"):
        retry_io(lambda: path.write(b""), timeout=600)


def test_what_is_waited_for_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full disk at the end of a run is no silence of minutes."""
    monkeypatch.setattr(waiting, "FIRST_SECONDS", 0.9)
    tries = iter([OSError(errno.ENOSPC, "No space left on device")] * 2 + ["written"])

    def write() -> str:
        if isinstance(found := next(tries), OSError):
            raise found
        return found

    assert retry_io(write, first_pause=0.7) == "written"
    said = "waiting for storage that can be written (No space left on device) (1 s)\n"
    assert capsys.readouterr().out == said


def test_only_one_of_many_processes_downloads(tmp_path: Path) -> None:
    calls: list[int] = []
    path = tmp_path / "data" / "poem.txt"
    started = threading.Event()

    def download() -> bytes:
        calls.append(1)
        started.wait(1)
        return b"text"

    threads = [threading.Thread(target=download_once, args=(path, download)) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.set()
    for thread in threads:
        thread.join()
    assert calls == [1]
    assert path.read_bytes() == b"text"


def test_a_download_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def download() -> bytes:
        return read_url("http://127.0.0.1:9/poem.txt", timeout=2)

    with pytest.raises(OSError, match="refused"):
        download_once(tmp_path / "a" / "b" / "poem.txt", download)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="unknown url type"):
        read_url("poem.txt")


def test_a_file_whose_name_is_as_long_as_may_be_is_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write_atomically(path, b"first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("letter", ["x", "é", "中", "😀"])
def test_short_names_differ_where_the_long_ones_do(letter: str) -> None:
    names = [letter * 300 + end for end in ("a", "b")]
    short = [short_name(name) for name in names]
    assert len(set(short)) == 2 and all(150 < len(name.encode()) <= 200 for name in short)
    assert short[0].startswith(letter * 40) and short_name(names[0]) == short[0]
    fits = letter * (200 // len(letter.encode()))
    assert short_name(fits) == fits
