"""Checkpoints on disk or shared storage: whole or absent, and never executable."""

from __future__ import annotations

import errno
import io
import os
import pickle
import time
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from labs.runtime.errors import InputError
from labs.runtime.reports import Checkpoint

T = TypeVar("T")

PATIENCE_SECONDS = 180.0
"""How long storage may be unreachable, or a disk full, before a trial is given up."""


def patiently(
    action: Callable[[], T], patience: float = PATIENCE_SECONDS, first_pause: float = 1.0
) -> T:
    """Do what needs storage; where that is away or full, try again, with doubling pauses.

    Args:
        action: raises OSError where it fails; may run several times.
        patience: seconds after which the last error is raised.
        first_pause: seconds before the second try; the longest pause is 20 seconds.

    Raises:
        OSError: it failed until the end, or for a reason that waiting does not mend.
    """
    deadline, pause = time.monotonic() + patience, first_pause
    while True:
        try:
            return action()
        except OSError as error:
            if _is_hopeless(error) or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 20.0)


def _is_hopeless(error: OSError) -> bool:
    numbers = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR)
    answers = (
        "ACCESS_DENIED",
        "NO_SUCH_BUCKET",
        "INVALID_ACCESS_KEY_ID",
        "SIGNATURE_DOES_NOT_MATCH",
    )
    return error.errno in numbers or any(answer in str(error) for answer in answers)


def to_bytes(checkpoint: Checkpoint) -> bytes:
    """Serialise now: later changes of the live tensors do not reach the copy."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write ``content`` to a local path or a URI (``s3://...``): readers see all of it or none."""
    if _is_remote(path):
        from pyarrow import fs

        filesystem, key = fs.FileSystem.from_uri(str(path))
        with filesystem.open_output_stream(key) as stream:  # an object appears when it is complete
            stream.write(content)
        return
    path = _local(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_bytes(path: str | Path) -> bytes | None:
    """The content of a local path or a URI; ``None`` where there is nothing."""
    try:
        if _is_remote(path):
            from pyarrow import fs

            filesystem, key = fs.FileSystem.from_uri(str(path))
            with filesystem.open_input_stream(key) as stream:
                return stream.read()
        return _local(path).read_bytes()
    except FileNotFoundError:
        return None


def _is_remote(path: str | Path) -> bool:
    return "://" in str(path) and not str(path).startswith("file://")


def _local(path: str | Path) -> Path:
    """``file:///mnt/shared/runs`` is a directory that all machines see."""
    return Path(str(path).removeprefix("file://"))


def require_writable(directory: str) -> None:
    """Write a file to shared storage and remove it.

    Raises:
        OSError: with a one-line reason as its ``strerror``.
    """
    path = f"{directory}/.writable"
    try:
        write_atomically(path, b"")
        if _is_remote(path):
            from pyarrow import fs

            filesystem, key = fs.FileSystem.from_uri(path)
            filesystem.delete_file(key)
        else:
            _local(path).unlink()
    except (
        OSError,
        ValueError,
        TypeError,
    ) as error:  # pyarrow refuses bad URIs with the latter two
        reason = (getattr(error, "strerror", None) or str(error)).strip().splitlines()[0]
        raise OSError(errno.EIO, reason) from None


def save_checkpoint(path: str | Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint to a temporary name and rename it."""
    write_atomically(path, to_bytes(checkpoint))


def load_checkpoint(path: str | Path, kind: str | None = None) -> Checkpoint:
    """Read a checkpoint onto the CPU without running any code that the file may hold.

    Args:
        path: local path or URI.
        kind: what ``checkpoint["kind"]`` must be, for instance ``"vision.classifier"``.

    Raises:
        InputError: the file is missing, is no checkpoint, holds pickled code, or is of another kind.
    """
    try:
        content = read_bytes(path)
    except OSError as error:
        raise InputError(f"checkpoint {path} cannot be read: {error.strerror or error}") from None
    if content is None:
        raise InputError(f"checkpoint {path} does not exist")
    return from_bytes(content, path, kind)


def from_bytes(content: bytes, path: str | Path, kind: str | None = None) -> Checkpoint:
    """What :func:`load_checkpoint` does with the file's content; ``path`` is for its errors."""
    try:
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"checkpoint {path} is not a checkpoint of plain tensors and numbers, and is not loaded"
            " because it could run code"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        raise InputError(f"{path} is not a checkpoint, or is damaged") from None
    if not isinstance(checkpoint, dict) or "kind" not in checkpoint:
        raise InputError(f"{path} is not a checkpoint of this project")
    if kind is not None and checkpoint["kind"] != kind:
        raise InputError(f"checkpoint {path} is of kind {checkpoint['kind']}, {kind} is needed")
    return checkpoint
