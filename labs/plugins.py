"""Importing users' modules that options name: environments, networks, encoders, classifiers."""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType
from typing import Any

from labs.runtime.errors import InputError


def import_module(name: str, field: str) -> ModuleType:
    """Import a module from Python's path, or else from the current directory.

    Python's path has the directory of the script, but not the current directory. That is appended if the
    module is not found elsewhere.

    Args:
        name: dotted name.
        field: the option that names the module, for the error message.

    Raises:
        InputError: there is no such module, it has a syntax error, or something it imports is
            missing.
    """
    try:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name not in _parents(name) or os.getcwd() in sys.path:
                raise
            sys.path.append(os.getcwd())
            importlib.invalidate_caches()
            return importlib.import_module(name)
    except (ImportError, SyntaxError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name in _parents(name):
            raise InputError(
                f"`{field}`: there is no module {name}, neither installed nor in the current"
                f" directory {os.getcwd()}: run in the directory of its file, or add that to PYTHONPATH"
            ) from None
        raise InputError(f"`{field}`: module {name} cannot be imported: {error}") from None


def load_object(path: str, field: str) -> Any:
    """Import the object ``module:name``, for instance a class.

    Args:
        path: dotted name of the module, a colon, and a dotted name in it.
        field: the option that names the object, for the error message.

    Raises:
        InputError: ``path`` has another form, the module cannot be imported, or it has no such name.
    """
    module_name, _, name = path.partition(":")
    if not (module_name and name):
        raise InputError(f"`{field}` {path} is not of the form module:name")
    found: Any = import_module(module_name, field)
    for part in name.split("."):
        if not hasattr(found, part):
            raise InputError(f"`{field}` {path}: module {module_name} has no {name}")
        found = getattr(found, part)
    return found


def _parents(name: str) -> list[str]:
    """``a``, ``a.b`` and ``a.b.c`` of ``a.b.c``."""
    parts = name.split(".")
    return [".".join(parts[: k + 1]) for k in range(len(parts))]
