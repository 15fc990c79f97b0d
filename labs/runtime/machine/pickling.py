"""Checks that something can be sent to other processes, before any is started."""

from __future__ import annotations

import io
from typing import Any

from ray.cloudpickle import CloudPickler

from labs.runtime.errors import InputError


class _NullWriter(io.RawIOBase):
    """A file that discards what is written, since data may be large."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data)


def require_picklable(value: Any, what: str) -> None:
    """Raise if ``value`` cannot be sent to other processes.

    Args:
        value: for instance a training procedure, with the variables of its closure.
        what: its description in the error message.

    Raises:
        InputError: it cannot be pickled.
    """
    try:
        # With buffer_callback, the content of arrays is not copied.
        CloudPickler(_NullWriter(), protocol=5, buffer_callback=lambda _: None).dump(value)
    except Exception as error:  # every type may raise its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{what} cannot be sent to other processes ({reason}): create such objects inside of it,"
            " or run in this process with `local_mode`"
        ) from None
