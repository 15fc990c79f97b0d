"""Checkpoints on disk or shared storage: written atomically, and loaded without running code."""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labs.runtime.directory.storage import StoragePath, reason
from labs.runtime.errors import InputError
from labs.runtime.reports import Checkpoint


def to_bytes(checkpoint: Checkpoint) -> bytes:
    """Serialise a checkpoint; later changes of its tensors do not affect the result."""
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


def require_loadable(checkpoint: Any) -> None:
    """Raise if a checkpoint could be saved, but not loaded again.

    Raises:
        TypeError: something in the checkpoint is neither a tensor, number, string nor None, nor a list,
            tuple or dict of these; the message says where it is.
    """
    if not isinstance(checkpoint, dict):
        raise TypeError(
            f"a checkpoint must be a dict, and this one is a {type(checkpoint).__name__}"
        )
    _require_plain(checkpoint, "")


_PLAIN = {torch.Tensor, torch.nn.Parameter, int, float, complex, bool, str, bytes, type(None)}


def _require_plain(value: Any, where: str) -> None:
    kind = type(value)
    if kind in _PLAIN:
        return
    if kind in (dict, collections.OrderedDict):
        for key, part in value.items():
            _require_plain(key, f"{where}[{key!r}]")
            _require_plain(part, f"{where}[{key!r}]")
    elif kind in (list, tuple):
        for number, part in enumerate(value):
            _require_plain(part, f"{where}[{number}]")
    else:  # PyTorch allows some further types
        try:
            torch.load(io.BytesIO(to_bytes({"value": value})), weights_only=True)
        except Exception:
            instead = (
                "torch.as_tensor of it"
                if isinstance(value, (np.ndarray, np.generic))
                else "its state_dict(), or tensors, numbers and strings"
            )
            raise TypeError(
                f"checkpoint{where} is a {kind.__module__}.{kind.__qualname__}, which cannot be loaded"
                f" again: save {instead}"
            ) from None


def save_checkpoint(path: str | Path | StoragePath, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically to a local path or a URI."""
    StoragePath(path).write(to_bytes(checkpoint))


def load_checkpoint(path: str | Path | StoragePath, kind: str | None = None) -> Checkpoint:
    """Load a checkpoint onto the CPU without running any code that the file may contain.

    Args:
        path: local path or URI.
        kind: what ``checkpoint["kind"]`` must be, for instance ``"vision.classifier"``.

    Raises:
        InputError: the file is missing, is not a checkpoint, contains pickled code, or is of another
            kind.
    """
    try:
        content = StoragePath(path).read()
    except IsADirectoryError:
        raise InputError(
            f"checkpoint {path} is a directory: name a file, in a run's directory checkpoints/TRIAL/best.pt"
        ) from None
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
            f"checkpoint {path} contains more than plain tensors and numbers, and is not loaded because"
            " it could run code"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        raise InputError(f"{path} is not a checkpoint, or it is damaged") from None
    if not isinstance(checkpoint, dict) or "kind" not in checkpoint:
        raise InputError(f"{path} is not a checkpoint of this project")
    if kind is not None and checkpoint["kind"] != kind:
        raise InputError(f"checkpoint {path} is of kind {checkpoint['kind']}, {kind} is needed")
    return checkpoint
