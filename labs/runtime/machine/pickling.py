"""Whether something can be sent to the processes of trials, asked before any is started."""

from __future__ import annotations

import io
from typing import Any

from ray.cloudpickle import CloudPickler

from labs.runtime.errors import InputError


class _Nowhere(io.RawIOBase):
    """Takes what is written, and keeps nothing: data may be large."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return len(data)


def require_picklable(value: Any, what: str) -> None:
    """Refuse what cannot be sent.

    Args:
        value: for instance a training procedure with what it has taken from around it.
        what: what an error calls it.

    Raises:
        InputError: it cannot be pickled.
    """
    try:
        # arrays are looked at, not copied
        CloudPickler(_Nowhere(), protocol=5, buffer_callback=lambda _: None).dump(value)
    except Exception as error:  # each type has its own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{what} cannot be sent to other processes ({reason}): make such objects inside of it,"
            " or run in this process with `local_mode`"
        ) from None
