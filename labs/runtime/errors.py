"""The error for mistakes that a user can make and fix, and remarks on what may be one."""

import math
from collections.abc import Sequence


class InputError(Exception):
    """Bad input. The message is one clear sentence that names the option and a valid value.

    ``labs.runtime.cli.launch`` prints the message on standard error and exits with status 2. It is not
    a ``ValueError``, because tyro would catch that in a config's ``__post_init__``.
    """


def require(name: str, value: object, holds: bool, what: str) -> None:
    """Raise unless the value of a config's field is valid.

    Args:
        name: name of the field.
        value: value of the field.
        holds: the condition.
        what: what the value must be, such as ``1 or more``.

    Raises:
        InputError: the condition does not hold (```` `batch_size` 0 must be 1 or more ````), or the
            value is infinite or NaN.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"`{name}` {value} must be a finite number")
    if not holds:
        raise InputError(f"`{name}` {value} must be {what}")


def similar_classes(names: Sequence[str]) -> list[str]:
    """A sentence for each two classes of a data set that differ in upper and lower case alone."""
    spelled: dict[str, str] = {}
    return [
        f"{first!r} and {name!r} are two classes, which differ in case alone"
        for name in names
        if (first := spelled.setdefault(name.casefold(), name)) != name
    ]
