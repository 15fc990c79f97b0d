"""cluster/slurm.sh without a Slurm: what it refuses, and signals at awkward moments.

``make test-slurm`` runs it on a real one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
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


STUBS = {
    "python": """
        case $1 in
        -c) echo 127.0.0.1; exit ;;
        -) exit ;; # all nodes have joined
        esac
        trap 'echo told >>driver; ended=yes' TERM
        echo begun >>driver
        for _ in {1..100}; do
          [ -z "${ended:-}" ] || { sleep 0.5; exit "$DRIVER_STATUS"; } # time for a second signal
          sleep 0.1
        done
        echo 'not told' >>driver""",
    "srun": "echo $$ >>steps; exec sleep 60",
    "scancel": "kill $(cat steps)",
    "squeue": "echo RUNNING $(date -d '+100 seconds' +%FT%T)",
    "scontrol": 'echo "$@" >>requeued',
    "sleep": '[ "$1" != 80 ] && exec {sleep} "$@"',  # what would kill a driver that does not end
}
"""Slurm's commands and the experiment, as far as the script uses them; all of a job's files are in one
directory."""

HOOK = """
case $0 in
*slurm.sh)
  send() {{ [ -n "$sent" ] || {{ sent=yes; ${{1:-}} kill -TERM $$; }}; }}
  later() {{ (sleep 0.5; "$@") & }}
  begun() {{ until [ -e driver ]; do sleep 0.05; done; }}
  before() {{ case $BASH_COMMAND in {cases} esac; }}
  sent=
  trap before DEBUG ;;
esac
"""
"""Bash reads this before the script, and runs one of its cases when a certain command is next."""


def job_with_signal(
    directory: Path, cases: str, driver_status: int = 1
) -> subprocess.CompletedProcess[str]:
    """Run the script as a job of one node that gets SIGTERM near its time limit.

    Args:
        directory: of the job.
        cases: when the signal comes, as cases of bash.
        driver_status: exit status of an experiment that is told to end.
    """
    (directory / "bin").mkdir()
    for name, lines in STUBS.items():
        stub = directory / "bin" / name
        text = textwrap.dedent(lines).replace("{sleep}", str(shutil.which("sleep")))
        stub.write_text(f"#!/bin/bash\n{text.strip()}\n")
        stub.chmod(0o755)
    (directory / "hook").write_text(HOOK.format(cases=cases))
    (directory / "study.py").touch()
    environment = {
        **os.environ,
        "PATH": f"{directory / 'bin'}:{os.environ['PATH']}",
        "BASH_ENV": str(directory / "hook"),
        "DRIVER_STATUS": str(driver_status),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_SUBMIT_DIR": str(directory),
        "SLURMD_NODENAME": "one",
    }
    return subprocess.run(
        ["bash", str(ROOT / "cluster" / "slurm.sh"), "study.py"],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


needs_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it needs Linux")


@needs_linux
@pytest.mark.parametrize("command", [r"driver=\$!", "tell_driver", "*kill*-0*", r"wait*\$driver*"])
def test_the_experiment_is_told_of_the_time_limit_whenever_the_signal_comes(
    tmp_path: Path, command: str
) -> None:
    """Once, and also where it has begun and the script does not know its number yet."""
    done = job_with_signal(tmp_path, f"{command}) begun; send ;;")
    assert (tmp_path / "driver").read_text().splitlines() == ["begun", "told"]
    assert done.returncode == 1, done.stderr
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"


@needs_linux
def test_an_experiment_that_starts_after_the_signal_ends_at_once(tmp_path: Path) -> None:
    done = job_with_signal(tmp_path, "python*options*) send ;;")
    driver = tmp_path / "driver"
    assert not driver.exists() or "not told" not in driver.read_text()
    assert done.returncode in (1, 143), done.stderr  # 143: before it could handle a signal
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"


@needs_linux
def test_an_experiment_that_is_done_when_it_is_told_is_not_started_again(tmp_path: Path) -> None:
    """It ends while the script handles the signal."""
    during = r"wait*\$driver*) begun; send later ;;"
    over = (
        '*kill*-0*) [ -z "$told" ] || while kill -0 "$driver" 2>/dev/null; do sleep 0.05; done ;;'
    )
    done = job_with_signal(tmp_path, f"{during} {over}", driver_status=0)
    assert (tmp_path / "driver").read_text().splitlines() == ["begun", "told"]
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "requeued").exists()
