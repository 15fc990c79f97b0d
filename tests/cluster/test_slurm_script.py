"""cluster/slurm.sh without a Slurm: what it refuses. ``make test-slurm`` runs it on a real one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DEPTH_SWEEP = "experiments/depth_sweep.py"


@pytest.mark.skipif(shutil.which("bash") is None, reason="it needs bash")
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "nothing is not an experiment"),
        (("depth_sweep.py", "--epochs", "2"), "depth_sweep.py is not an experiment"),
        ((DEPTH_SWEEP, "--run-name", "first"), "the job's number names the run"),
        ((DEPTH_SWEEP, "--epochs", "2", "--run-root=s3://bucket/runs"), "RUN_ROOT=..."),
        ((DEPTH_SWEEP, "--resume", "runs/depth_sweep/17"), "start it with sbatch"),
    ],
)
def test_what_it_refuses(arguments: tuple[str, ...], sentence: str) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
    done = subprocess.run(
        ["bash", "cluster/slurm.sh", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert sentence in line
