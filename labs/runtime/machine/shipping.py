"""A user's own modules, which a cluster's other machines do not have: found, and shipped by Ray.

The functions of a script travel by themselves; the modules that it imports are looked for by name where
they run. What is installed (``labs`` included) is expected there.
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

MOST_MIB = 100
"""Ray (2.54.1 to 2.60.0) takes up to 512 MiB in one piece, which every process of a trial waits for."""

EXCLUDED = (".git", ".venv", "__pycache__", "runs", "data", "checkpoints", "*.pt")
"""What of a package is left behind, as ``.gitignore`` writes it; what that file names is, too."""

_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""In the environment of a job's driver (``ray job submit``): what the job was given."""

_INSTALLED = ("site-packages", "dist-packages", os.path.dirname(os.__file__))


def runtime_env() -> dict[str, Any]:
    """What ``ray.init`` is given for a cluster: the modules beside the script, if it imports any.

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
        if size > MOST_MIB:
            raise InputError(
                f"{path} has {size:,.0f} MiB, and {MOST_MIB} MiB is the most that is shipped to a"
                " cluster: move data out of it, name them in its .gitignore, or install the package"
                " on the machines"
            )
    return {"py_modules": [str(path) for path in modules], "excludes": list(EXCLUDED)}


def own_modules(main: ModuleType | None = None) -> list[Path]:
    """Files and packages that the script imports, and these in turn, and that are not installed.

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
    """First parts of the names that a file imports anywhere, also inside of functions."""
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
    """The file or directory of a module; None where it is installed, or none that can be shipped."""
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
    """The files of a module, without what is left behind."""
    if path.is_file():
        yield path
        return
    for directory, names, files in os.walk(path):
        names[:] = [name for name in names if name not in EXCLUDED]
        yield from (Path(directory, file) for file in files if not file.endswith(".pt"))


def _shipped_already() -> bool:
    """Whether this process runs in a job of the cluster that came with its own files."""
    try:
        job = json.loads(os.environ.get(_JOB, "{}"))
    except json.JSONDecodeError:
        return False
    given = (job.get("runtime_env") or {}) if isinstance(job, dict) else {}
    return bool(given.get("working_dir") or given.get("py_modules"))
