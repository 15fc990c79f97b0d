"""`uv run` of an experiment: Ray's own hook for uv would build an environment anew for each worker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import uv

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
@pytest.mark.ray
def test_uv_runs_an_experiment(tmp_path: Path) -> None:
    """With this environment, as it is: syncing would download the newest torch for CUDA."""
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
    command = [uv.find_uv_bin(), "run", "--no-sync", "--active", "--offline", "python"]
    done = subprocess.run(
        [*command, "experiments/depth_sweep.py", *options, "--run-root", tmp_path],
        check=False, cwd=ROOT, capture_output=True, text=True, timeout=200,
        env={**os.environ, "VIRTUAL_ENV": sys.prefix},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[1/1] done" in done.stdout
