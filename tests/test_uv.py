"""`uv run` of an experiment: Ray's own hook for uv would build an environment again for each worker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import uv

ROOT = Path(__file__).parent.parent


ACTORS = """
import ray
from labs.runtime.options import RuntimeOptions
from labs.runtime.machine.session import connect
with connect(RuntimeOptions(num_cpus=1)):
    environment = ray.get(ray.remote(lambda: ray.get_runtime_context().runtime_env).remote())
    print("workers start with", environment.get("py_executable", "this Python"))
"""


def uv_run(*arguments: object) -> str:
    """With this environment, as it is: syncing would download the newest torch for CUDA."""
    command = [uv.find_uv_bin(), "run", "--no-sync", "--active", "--offline", "python"]
    done = subprocess.run(
        [*command, *arguments], check=False, cwd=ROOT, capture_output=True, text=True, timeout=200,
        env={**os.environ, "VIRTUAL_ENV": sys.prefix},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.ray
def test_workers_are_plain_python() -> None:
    """With Ray's hook it would be ``uv run --no-sync ...``, and without --no-sync a new environment."""
    assert "workers start with this Python\n" in uv_run("-c", ACTORS)


@pytest.mark.slow
@pytest.mark.ray
def test_uv_runs_an_experiment(tmp_path: Path) -> None:
    options = [
        "--families",
        "mlp",
        "--depths",
        "1",
        "--learning-rates",
        "1e-3",
        "--epochs",
        "1",
        "--seeds",
        "1",
    ]
    out = uv_run("experiments/depth_sweep.py", *options, "--run-root", tmp_path)
    assert "[1/1] done" in out
