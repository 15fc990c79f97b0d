"""Files in a local directory, in a directory that all machines share, or on an object store."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
import urllib.parse
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from labs.runtime.errors import InputError
from labs.runtime.loop.waiting import report_while_waiting

T = TypeVar("T")

_UNQUOTED = "/=,+@:!$&'()*;~"
"""Characters of a URI's path that are not percent-encoded, so that names of trials stay readable."""

_LONGEST_NAME = 200
"""Bytes; file systems take 255."""

RETRY_SECONDS = 180.0
"""How long storage may be unreachable, or a disk full, before a trial fails."""


class StoragePath:
    """A file or directory, named by a local path or by a URI; ``/`` joins, as for pathlib's paths.

    ``s3://bucket/runs`` (or another URI that pyarrow opens: ``gs://``, ``abfs://``, ``hdfs://``) is an
    object store. ``file:///mnt/runs`` is a directory that all machines share. Instances are small and
    can be sent to other processes.

    Attributes:
        local: the path on this machine; None for an object store.
        shared: whether other machines can reach it, too.

    Args:
        path: local path or URI. A URI is always shared.
        shared: whether other machines can reach a local path.

    Raises:
        InputError: ``file://`` is not followed by an absolute path.
        OSError: from every method, if the storage cannot be reached, is full or denies access. Its
            first argument is ``errno.EINVAL`` if the URI is invalid.
    """

    def __init__(self, path: str | Path | StoragePath, *, shared: bool = False) -> None:
        scheme, separator, rest = str(path).partition("://")
        self.shared = shared or bool(separator)
        self._uri, self._query = "", ""
        self.local: Path | None = None
        if not separator:
            self.local = Path(str(path))
        elif scheme.lower() == "file":
            rest = rest.removeprefix("localhost")
            if not rest.startswith("/"):
                raise InputError(f"{path} names another machine: write file:///{rest}")
            self.local = Path(urllib.parse.unquote(rest))
        else:
            rest, question, query = rest.partition("?")  # s3://bucket/runs?endpoint_override=...
            self._uri, self._query = f"{scheme.lower()}://{rest.rstrip('/')}", question + query

    def __str__(self) -> str:
        if self.local is not None:
            return (
                f"file://{urllib.parse.quote(str(self.local), _UNQUOTED)}"
                if self.shared
                else str(self.local)
            )
        return self._uri + self._query

    def __repr__(self) -> str:
        return f"StoragePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoragePath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, name: str) -> StoragePath:
        """The path of ``name`` (which may contain slashes) in this directory."""
        made = StoragePath(self)
        if self.local is not None:
            made.local = self.local / name
        else:
            made._uri = f"{self._uri}/{urllib.parse.quote(name, _UNQUOTED)}"
        return made

    @property
    def name(self) -> str:
        """The last part of the path."""
        if self.local is not None:
            return self.local.name
        return urllib.parse.unquote(self._uri.rpartition("/")[2])

    @property
    def parent(self) -> StoragePath:
        """The directory that it is in."""
        made = StoragePath(self)
        if self.local is not None:
            made.local = self.local.parent
        else:
            made._uri = self._uri.rpartition("/")[0]
        return made

    def open(self) -> tuple[Any, str]:
        """Pyarrow's file system for an object store, and the path in it."""
        from pyarrow import fs

        try:
            return fs.FileSystem.from_uri(str(self))
        except (ValueError, TypeError, NotImplementedError) as error:  # pyarrow's ArrowInvalid, ...
            raise OSError(errno.EINVAL, str(error).strip().splitlines()[0]) from None

    def read(self) -> bytes | None:
        """The content of a file; None if it does not exist."""
        try:
            if self.local is not None:
                return self.local.read_bytes()
            filesystem, key = self.open()
            with filesystem.open_input_stream(key) as stream:
                return stream.read()
        except FileNotFoundError:
            return None

    def write(self, content: bytes) -> None:
        """Write a file atomically, and create its directories."""
        if self.local is not None:
            write_atomically(self.local, content)
            return
        filesystem, key = self.open()
        with filesystem.open_output_stream(key) as stream:  # an object appears when it is complete
            stream.write(content)

    def create(self, content: bytes) -> bool | None:
        """Create a file atomically; False if it already exists, and then it is not changed.

        If several processes try, also on several machines, exactly one succeeds. None if the storage
        cannot guarantee that: object stores other than S3, or S3 without boto3.
        """
        if self.local is not None:
            return _create_locally(self.local, content)
        client, where = s3_client(self)
        if client is None:
            return None
        return _create_on_s3(client, where, content)

    def exists(self) -> bool:
        """Whether the file or directory exists."""
        if self.local is not None:
            return self.local.exists()
        filesystem, key = self.open()
        return bool(filesystem.get_file_info(key).type)  # FileType.NotFound is 0

    def files(self) -> list[str]:
        """Sorted names of all files in this directory and below, relative to it."""
        if self.local is not None:
            found = (path for path in self.local.rglob("*") if path.is_file())
            return sorted(path.relative_to(self.local).as_posix() for path in found)
        from pyarrow import fs

        filesystem, key = self.open()
        infos = filesystem.get_file_info(fs.FileSelector(key, allow_not_found=True, recursive=True))
        return sorted(info.path.removeprefix(f"{key}/") for info in infos if info.is_file)

    def delete(self) -> None:
        """Delete a file, if it exists."""
        try:
            if self.local is not None:
                self.local.unlink()
            else:
                filesystem, key = self.open()
                filesystem.delete_file(key)
        except FileNotFoundError:
            pass

    def move(self, target: StoragePath) -> None:
        """Rename a file within the same storage; ``target`` is replaced if it exists.

        An object store copies and then deletes. A process that dies in between leaves both files, and
        the same move can be repeated.
        """
        if self.local is not None:
            assert target.local is not None
            os.replace(self.local, target.local)
            return
        filesystem, key = self.open()
        filesystem.move(key, target.open()[1])


def short_name(name: str) -> str:
    """A name that file systems take, with a suffix: a long one ends early, and with a digest of the whole."""
    content = os.fsencode(name)
    if len(content) <= _LONGEST_NAME:
        return name
    digest = hashlib.blake2b(content, digest_size=4).hexdigest()
    return f"{content[: _LONGEST_NAME - 9].decode(errors='ignore')}~{digest}"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a local file under a temporary name and rename it; creates its directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            # Without it, a crash of the machine may leave an empty file with the final name.
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _create_locally(path: Path, content: bytes) -> bool:
    """Create ``path`` as a hard link to a complete file, which fails if it already exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(content)
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        try:  # a file system without hard links
            with open(path, "xb") as file:
                file.write(content)
        except FileExistsError:
            return False
    finally:
        temporary.unlink(missing_ok=True)
    return True


def s3_client(path: StoragePath) -> tuple[Any, dict[str, str]]:
    """boto3's client for an ``s3://`` path, with its bucket and key; None for others or without boto3."""
    parts = urllib.parse.urlsplit(str(path))
    if parts.scheme != "s3":
        return None, {}
    try:
        import boto3
    except ImportError:
        return None, {}
    # The same parameters as pyarrow's: endpoint_override, scheme, region.
    query = dict(urllib.parse.parse_qsl(parts.query))
    endpoint = query.get("endpoint_override")
    if endpoint and "://" not in endpoint:
        endpoint = f"{query.get('scheme', 'https')}://{endpoint}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=query.get("region"),
        aws_access_key_id=urllib.parse.unquote(parts.username) if parts.username else None,
        aws_secret_access_key=urllib.parse.unquote(parts.password) if parts.password else None,
    )
    bucket = parts.netloc.rpartition("@")[2]
    return client, {"Bucket": bucket, "Key": urllib.parse.unquote(parts.path.lstrip("/"))}


def _create_on_s3(client: Any, where: dict[str, str], content: bytes) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        client.put_object(**where, Body=content, IfNoneMatch="*")
    except ClientError as error:
        if error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"):
            return False
        raise OSError(errno.EIO, str(error)) from None
    except BotoCoreError as error:
        raise OSError(errno.EIO, str(error)) from None
    return True


def retry_io(
    action: Callable[[], T], timeout: float = RETRY_SECONDS, first_pause: float = 1.0
) -> T:
    """Call ``action``; if it fails, retry after 1, 2, 4, ... and at most 20 seconds, and say so if it takes long.

    Args:
        action: raises OSError if it fails; may be called several times.
        timeout: seconds after which the last error is raised.
        first_pause: seconds before the second try.

    Raises:
        OSError: all tries failed, or the error is permanent.
    """
    deadline, pause = time.monotonic() + timeout, first_pause
    with contextlib.ExitStack() as waiting:
        while True:
            try:
                return action()
            except OSError as error:
                if is_permanent(error) or time.monotonic() + pause > deadline:
                    raise
                if pause == first_pause:
                    what = f"storage that can be written ({reason(error)})"
                    waiting.enter_context(report_while_waiting(what))
            time.sleep(pause)
            pause = min(2 * pause, 20.0)


def is_full(error: OSError) -> bool:
    """Whether a disk or a quota has no room left."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def is_permanent(error: OSError) -> bool:
    """Whether a retry cannot help: no permission, no such bucket, not a directory."""
    numbers = (
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EINVAL,
        errno.ENAMETOOLONG,
    )
    answers = (
        "ACCESS_DENIED",
        "NO_SUCH_BUCKET",
        "INVALID_ACCESS_KEY_ID",
        "SIGNATURE_DOES_NOT_MATCH",
    )
    return error.errno in numbers or any(answer in str(error) for answer in answers)


def reason(error: OSError) -> str:
    """The reason of an error in one line; pyarrow's errors have no ``strerror``, and several lines."""
    return (error.strerror or str(error) or type(error).__name__).strip().splitlines()[0]
