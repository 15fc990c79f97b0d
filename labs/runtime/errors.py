"""The one kind of error that a user can cause and mend."""


class InputError(Exception):
    """Bad input: its message is one clear sentence that names the option and a valid value.

    ``labs.runtime.cli.launch`` prints the message on standard error and ends with status 2. It is no
    ``ValueError``, because tyro would catch that in a config's ``__post_init__``.
    """
