"""Checkpoints on disk or shared storage: whole or absent, and never executable."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import torch

from labs.runtime.errors import InputError
from labs.runtime.reports import Checkpoint
from labs.runtime.storage import StoragePath, reason


def to_bytes(checkpoint: Checkpoint) -> bytes:
    """Serialise now: later changes of the live tensors do not reach the copy."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


def save_checkpoint(path: str | Path | StoragePath, checkpoint: Checkpoint) -> None:
    """Write a checkpoint to a local path or a URI: readers see all of it or none."""
    StoragePath(path).write(to_bytes(checkpoint))


def load_checkpoint(path: str | Path | StoragePath, kind: str | None = None) -> Checkpoint:
    """Read a checkpoint onto the CPU without running any code that the file may hold.

    Args:
        path: local path or URI.
        kind: what ``checkpoint["kind"]`` must be, for instance ``"vision.classifier"``.

    Raises:
        InputError: the file is missing, is no checkpoint, holds pickled code, or is of another kind.
    """
    try:
        content = StoragePath(path).read()
    except OSError as error:
        raise InputError(f"checkpoint {path} cannot be read: {reason(error)}") from None
    if content is None:
        raise InputError(f"checkpoint {path} does not exist")
    return from_bytes(content, path, kind)


def from_bytes(
    content: bytes, path: str | Path | StoragePath, kind: str | None = None
) -> Checkpoint:
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
