"""Running the experiments as a user runs them."""

from __future__ import annotations

import importlib.util
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent.parent


def load_script(name: str) -> ModuleType:
    """``experiments/<name>.py`` as a module, so that a test can call it in its own process."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "experiments" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run_here(name: str, *arguments: object) -> int:
    """Exit status of ``python experiments/<name>.py ...`` run in this process, which is faster."""
    path = str(ROOT / "experiments" / f"{name}.py")
    before = sys.argv
    sys.argv = [path, *map(str, arguments)]
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    return 0


def start_script(name: str, *arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    """``python experiments/<name>.py ...`` in a new process."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "experiments" / f"{name}.py"), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def run_script(name: str, *arguments: str | Path, **environment: str) -> tuple[int, str, str]:
    """Exit status, standard output and standard error."""
    process = start_script(name, *arguments, **environment)
    out, err = process.communicate(timeout=500)
    return process.returncode, out, err
