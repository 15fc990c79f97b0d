"""The one kind of error that a user can cause and fix."""


class InputError(Exception):
    """Bad input: its message is one clear sentence that names the option and a valid value.

    ``labs.runtime.cli.launch`` prints the message on standard error and ends with status 2. It is no
    ``ValueError``, because tyro would catch that in a config's ``__post_init__``.
    """


def require(name: str, value: object, holds: bool, what: str) -> None:
    """Refuse a config's value unless a condition holds.

    Args:
        name: of the field.
        value: of the field.
        holds: the condition.
        what: what the value must be, such as ``1 or more``.

    Raises:
        InputError: the condition does not hold; ```` `batch_size` 0 must be 1 or more ````.
    """
    if not holds:
        raise InputError(f"`{name}` {value} must be {what}")
