"""Environment variables that would make an import fail, because of their values or because they are missing."""

from __future__ import annotations

import getpass
import os
import sys
import tempfile


def prepare() -> None:
    """Fix the environment for the imports after this one. Worker processes inherit it.

    Raises:
        SystemExit: status 2 after a sentence, where nothing that is imported later would work.
    """
    _require_docstrings()
    _require_home()
    _require_matplotlib()


def _require_docstrings() -> None:
    """End with a sentence if Python has removed all docstrings, since importing Ray (2.54.1) reads some."""
    if sys.flags.optimize > 1:
        print(
            "error: without docstrings (PYTHONOPTIMIZE=2, python -OO) Ray cannot be imported: use level 1",
            file=sys.stderr,
        )
        sys.exit(2)


def _require_matplotlib() -> None:
    """Remove what makes the import of Matplotlib (3.11) fail, or end with a sentence.

    A notebook's kernel exports its own backend, and every command in a cell inherits it; its package may
    not be installed. It is replaced, since figures are only written to files. A ``matplotlibrc`` that
    cannot be read is named.
    """
    backend, settings = os.environ.get("MPLBACKEND"), _matplotlib_settings()
    if "matplotlib" in sys.modules or not (backend or settings):  # the import takes long
        return
    os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    except ValueError as error:  # also a UnicodeDecodeError
        reason = str(error).splitlines()[0]
        print(
            f"error: {settings} (Matplotlib's settings) cannot be read: {reason}", file=sys.stderr
        )
        sys.exit(2)
    if backend:
        try:
            matplotlib.rcParams["backend"] = (
                backend  # as Matplotlib's import does with the variable
            )
        except ValueError:
            backend = "agg"
        os.environ["MPLBACKEND"] = backend


def _matplotlib_settings() -> str | None:
    """The ``matplotlibrc`` of the user, found as Matplotlib finds it; None if there is none."""
    named = os.environ.get("MATPLOTLIBRC", "")
    directory = os.environ.get("MPLCONFIGDIR") or os.path.join(
        os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "matplotlib"
    )
    places = ["matplotlibrc", named, f"{named}/matplotlibrc", f"{directory}/matplotlibrc"]
    return next((os.path.abspath(place) for place in places if os.path.isfile(place)), None)


def _require_home() -> None:
    """Set a home directory and a user name if the system has none.

    In a container whose user id is not in the user database, ``Path.home()`` raises a RuntimeError, which
    makes the import of Ray Tune (2.54.1 to 2.60.0) and others fail.
    """
    if not os.path.isabs(os.path.expanduser("~")):
        # A directory per user, since its content is trusted.
        path = os.path.join(tempfile.gettempdir(), f"home-{os.getuid()}")
        os.makedirs(path, mode=0o700, exist_ok=True)
        if os.stat(path).st_uid != os.getuid():
            path = tempfile.mkdtemp(prefix="home-")
        os.environ["HOME"] = path
    try:
        getpass.getuser()
    except (KeyError, OSError):  # KeyError up to Python 3.12
        os.environ["USER"] = str(os.getuid())
