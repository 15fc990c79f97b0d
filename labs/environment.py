"""Environment variables of other programs, and missing ones, that would stop this one at an import."""

from __future__ import annotations

import getpass
import os
import sys
import tempfile


def prepare() -> None:
    """Set right what the imports after this one depend on. Workers inherit it."""
    _require_matplotlib_backend()
    _require_home()


def _require_matplotlib_backend() -> None:
    """Ignore an ``MPLBACKEND`` that Matplotlib does not know: figures here go to files only.

    A notebook's kernel exports its own backend, and every command of a notebook's cell inherits it.
    Where its package is not installed, importing Matplotlib (3.11) is a ValueError.
    """
    if not os.environ.get("MPLBACKEND") or "matplotlib" in sys.modules:
        return
    backend = os.environ.pop("MPLBACKEND")
    import matplotlib

    try:
        matplotlib.rcParams["backend"] = backend  # what importing it does with the variable
    except ValueError:
        backend = "agg"
    os.environ["MPLBACKEND"] = backend


def _require_home() -> None:
    """A home directory and a user's name where the system knows neither.

    In a container that runs under a number without an entry in its user database, ``Path.home()`` is a
    RuntimeError, which Ray Tune (2.54.1 to 2.60.0) and others meet when they are imported.
    """
    if not os.path.isabs(os.path.expanduser("~")):
        # Not one directory for all users: what lies in it is trusted.
        path = os.path.join(tempfile.gettempdir(), f"home-{os.getuid()}")
        os.makedirs(path, mode=0o700, exist_ok=True)
        if os.stat(path).st_uid != os.getuid():
            path = tempfile.mkdtemp(prefix="home-")
        os.environ["HOME"] = path
    try:
        getpass.getuser()
    except (KeyError, OSError):  # KeyError up to Python 3.12
        os.environ["USER"] = str(os.getuid())
