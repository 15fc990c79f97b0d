"""Errors of a training: which of them end its process, and what is told of them."""

from __future__ import annotations

import bdb
import traceback
from collections.abc import Mapping

from labs.runtime.reports import one_line, whole_characters


def must_end(error: BaseException) -> bool:
    """Whether the user (or Ray, 2.54.1 to 2.60.0) has asked this process to end."""
    return isinstance(error, (KeyboardInterrupt, bdb.BdbQuit)) or hasattr(
        error, "ray_terminate_msg"
    )


def without_exit(error: BaseException) -> Exception:
    """The error, as one that does not end the process."""
    return error if isinstance(error, Exception) else RuntimeError(describe(error)["error"])


def describe(error: BaseException) -> Mapping[str, str]:
    """An exception as text, since to unpickle one the driver may lack its module."""
    return {
        "error": one_line(f"{type(error).__name__}: {error}".strip().rstrip(":")),
        "traceback": whole_characters("".join(traceback.format_exception(error))),
    }
