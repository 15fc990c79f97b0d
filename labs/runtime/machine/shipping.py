"""Finding a user's own modules, and sending them with Ray to the other machines of a cluster.

Ray sends the functions of a script by value, but imports the script's modules by name on the other
machines. Installed packages (``labs`` included) must be installed there as well.
"""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from labs.runtime.errors import InputError

MAX_MIB = 100
"""Largest module. Ray (2.54.1 to 2.60.0) allows 512 MiB, but every process of a trial waits for it."""

EXCLUDED = (".git", ".venv", "__pycache__", "runs", "data", "checkpoints", "*.pt")
"""What is not sent of a package, as patterns of ``.gitignore``; Ray also applies that file itself."""

_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Variable in the environment of a job's driver (``ray job submit``): the settings of the job."""

_INSTALLED = ("site-packages", "dist-packages", os.path.dirname(os.__file__))


def runtime_env() -> dict[str, Any]:
    """The ``runtime_env`` for ``ray.init`` on a cluster, with the modules that the script imports.

    Raises:
        InputError: they are too large.
    """
    if _shipped_already():
        return {}
    modules = own_modules()
    if not modules:
        return {}
    for path in modules:
        size = sum(file.stat().st_size for file in _files(path)) / 2**20
        if size > MAX_MIB:
            raise InputError(
                f"{path} has {size:,.0f} MiB, and at most {MAX_MIB} MiB are sent to a cluster: move data"
                " out of it, or install the package on the machines"
            )
    return {"py_modules": [str(path) for path in modules], "excludes": list(EXCLUDED)}


def own_modules(main: ModuleType | None = None) -> list[Path]:
    """Files and packages that the script imports, directly or indirectly, and that are not installed.

    Args:
        main: the script's module. The default is ``__main__``.
    """
    main = main or sys.modules["__main__"]
    found: dict[str, Path] = {}
    waiting: list[str] = []
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # python -m package.script
        waiting.append(spec.name.partition(".")[0])
    if getattr(main, "__file__", None):
        waiting += _imported(Path(str(main.__file__)))
    else:  # a notebook: what it has imported so far
        waiting += [name for name in list(sys.modules) if "." not in name]
    while waiting:
        name = waiting.pop()
        if name in found or name in sys.stdlib_module_names or name in ("labs", "__main__"):
            continue
        path = _location(name)
        if path is not None:
            found[name] = path
            for file in _files(path):
                if file.suffix == ".py":
                    waiting += _imported(file)
    return sorted(found.values())


def _imported(path: Path) -> list[str]:
    """Top-level names of the modules that a file imports, also inside functions."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.append(node.module)
    return [name.partition(".")[0] for name in names]


def _location(name: str) -> Path | None:
    """The file or directory of a module; None if it is installed or is not Python source."""
    spec = None
    with contextlib.suppress(ImportError, ValueError, AttributeError):
        spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        path = Path(next(iter(spec.submodule_search_locations)))
    else:
        path = Path(spec.origin or "")
    own = path.is_dir() or (path.is_file() and path.suffix == ".py")
    if not own or any(part in str(path) for part in _INSTALLED):
        return None
    return path.absolute()


def _files(path: Path) -> Iterator[Path]:
    """The files of a module that are sent."""
    if path.is_file():
        yield path
        return
    for directory, names, files in os.walk(path):
        names[:] = [name for name in names if name not in EXCLUDED]
        yield from (Path(directory, file) for file in files if not file.endswith(".pt"))


def _shipped_already() -> bool:
    """Whether this process runs in a job of the cluster that was submitted with its files."""
    try:
        job = json.loads(os.environ.get(_JOB, "{}"))
    except json.JSONDecodeError:
        return False
    given = (job.get("runtime_env") or {}) if isinstance(job, dict) else {}
    return bool(given.get("working_dir") or given.get("py_modules"))
