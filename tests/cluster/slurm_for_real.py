"""`sbatch cluster/slurm.sh` for real, on a Slurm of this script's own. Root on Linux only.

    make test-slurm

Its two nodes are two ``slurmd -N`` on this machine. Ports, keys, state and logs are its own, so that
a Slurm that runs here is not touched. The script is the one that users start; nothing in it is replaced.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SERVERS = ("munged", "slurmctld", "slurmd")
TOOLS = (*SERVERS, "sbatch", "srun", "scancel", "scontrol", "squeue")
BEGUN = time.monotonic()
CONFIG = """
ClusterName=labs
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={work}/munge.socket,cred_expire=10
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
KillWait=30
ReturnToService=2
FirstJobId={first}
SwitchType=switch/none
StateSaveLocation={work}/state
SlurmdSpoolDir={work}/spool-%n
SlurmctldPidFile={work}/slurmctld.pid
SlurmdPidFile={work}/slurmd-%n.pid
SlurmctldLogFile={work}/slurmctld.log
SlurmdLogFile={work}/slurmd-%n.log
NodeName=one NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=8000
NodeName=two NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=8000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP DefMemPerCPU=2000
"""


def say(text: str) -> None:
    print(f"[{time.monotonic() - BEGUN:5.1f}s] {text}", flush=True)


def reason_to_skip() -> str | None:
    """Why this cannot run here."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "it needs root on Linux, for the servers of a Slurm of its own"
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"missing {', '.join(missing)} (Debian: slurm-wlm munge)" if missing else None


def run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd)
    if done.returncode != 0:
        raise RuntimeError(
            f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
    return done.stdout


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g}s for: {what}")
        time.sleep(0.3)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Slurm:
    """A Slurm with two nodes; ``project`` is the directory that users submit from."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.project = work / "project"
        self.servers: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        work = self.work
        self.project.mkdir()
        for name in (
            "experiments",
            "cluster",
            "labs",
        ):  # as they are now, whoever edits them meanwhile
            shutil.copytree(ROOT / name, self.project / name)
        os.environ["PYTHONPATH"] = str(self.project)
        (self.project / ".venv").symlink_to(sys.prefix)
        for name in ("state", "spool-one", "spool-two"):
            (work / name).mkdir()
        key = work / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        text = CONFIG.format(
            host=socket.gethostname(), work=work, ports=free_ports(3), first=1000 + os.getpid()
        )
        (work / "slurm.conf").write_text(text)
        os.environ["SLURM_CONF"] = str(work / "slurm.conf")
        self._serve("munged", "--foreground", "--force", *self._munge_files())
        wait_until((work / "munge.socket").exists, "munged", 20)
        self._serve("slurmctld", "-D")
        for node in ("one", "two"):
            self._serve("slurmd", "-D", "-N", node)
        wait_until(lambda: self._nodes() == ["idle", "idle"], "both nodes to be idle", 60)

    def _munge_files(self) -> list[str]:
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log"}
        return [f"--{o}={self.work}/munge.{n}" for o, n in files.items()] + [
            f"--seed-file={self.work}/munge.seed"
        ]

    def _serve(self, *command: str) -> None:
        log = open(self.work / f"{command[0]}-{len(self.servers)}.out", "wb")  # noqa: SIM115
        self.servers.append(
            subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        )

    def _nodes(self) -> list[str]:
        listed = subprocess.run(
            ["sinfo", "-h", "-N", "-o", "%t"], check=False, capture_output=True, text=True
        )
        return listed.stdout.split()

    def stop(self) -> None:
        subprocess.run(["scancel", "--user=root"], check=False, capture_output=True)
        time.sleep(2)
        for server in reversed(self.servers):
            server.terminate()
        for server in self.servers:
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:
                server.kill()

    def sbatch(self, *options: str, script: tuple[str, ...]) -> str:
        """The id of a new job."""
        command = ("sbatch", "--parsable", *options, "cluster/slurm.sh", *script)
        return run(*command, cwd=self.project).strip()

    def state(self, job: str) -> str:
        match = re.search(r"JobState=(\S+)", run("scontrol", "show", "job", job))
        assert match is not None
        return match[1]

    def log(self, job: str) -> str:
        path = self.project / f"slurm-{job}.log"
        return path.read_text() if path.exists() else ""

    def finish(self, job: str, expected: str = "COMPLETED", seconds: float = 300) -> str:
        """Wait for the job's end; what it printed."""
        ends = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
        wait_until(lambda: self.state(job) in ends, f"job {job} to end", seconds)
        assert self.state(job) == expected, f"{self.state(job)}\n{self.log(job)}"
        return self.log(job)

    def run_directory(self, job: str) -> Path:
        return self.project / "runs" / "depth_sweep" / job

    def steps(self, job: str) -> list[list[int]]:
        """The steps of each trial; every trial of ``results.csv`` is done."""
        with open(self.run_directory(job) / "results.csv") as lines:
            rows = list(csv.DictReader(lines))
        assert {row["status"] for row in rows} == {"done"}, rows
        trials = [self.run_directory(job) / "tensorboard" / row["name"] for row in rows]
        histories = [(trial / "reports.jsonl").read_text().splitlines() for trial in trials]
        return [[json.loads(line)["step"] for line in history] for history in histories]

    def reported(self, job: str) -> int:
        """How many reports the trials have made so far."""
        files = self.run_directory(job).glob("tensorboard/*/reports.jsonl")
        return sum(len(path.read_text().splitlines()) for path in files)


def left_behind(jobs: list[str]) -> list[str]:
    """Directories and processes of these jobs' Rays."""
    directories = [f"/tmp/ray-{job}" for job in jobs]
    found = [path for path in directories if os.path.exists(path)]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        found += [line for path in directories if f"{path}/" in line]
    return found


def sweep(depth: str, epochs: str, seeds: str, *more: str) -> tuple[str, ...]:
    grid = ("--families", "mlp", "--depths", depth, "--epochs", epochs, "--seeds", seeds)
    return ("experiments/depth_sweep.py", *grid, *more)


def scenario(slurm: Slurm) -> None:
    jobs: list[str] = []
    small = ("--cpus-per-task=1", "--time=10")

    def ends_clean() -> None:
        wait_until(lambda: not left_behind(jobs), f"the last of Ray: {left_behind(jobs)}", 60)

    def submit(*options: str, script: tuple[str, ...]) -> str:
        jobs.append(slurm.sbatch(*options, script=script))
        return jobs[-1]

    job = submit(*small, script=sweep("2", "20", "2"))
    output = slurm.finish(job)
    assert "all nodes (2) have joined" in output, output
    assert re.search(r"\b2 at (a time|once)", output), output  # one core of each node
    assert slurm.steps(job) == [list(range(1, 21))] * 4
    ends_clean()
    say("a sweep over two nodes: 4 trials done, two at a time; nothing left behind")

    apart = [
        submit(*small, "--nodes=1", "--nodelist=one", script=sweep(depth, "150", "1"))
        for depth in ("7", "8")
    ]

    def side_by_side() -> bool:
        states = [slurm.state(job) for job in apart]
        assert set(states) <= {"PENDING", "RUNNING"}, states
        return all(slurm.reported(job) for job in apart)

    wait_until(side_by_side, "reports of two jobs at the same time")
    for job in apart:
        slurm.finish(job)
        assert slurm.steps(job) == [list(range(1, 151))] * 2
    ends_clean()
    say("two jobs of one user on one node: both done, neither saw the other")

    taken = socket.socket()
    taken.bind(("0.0.0.0", 20000 + (int(jobs[-1]) + 1) % 6000 * 2))
    taken.listen()
    job = submit(*small, "--nodes=1", script=sweep("1", "1", "1"))
    output = slurm.finish(job, "FAILED")
    taken.close()
    assert "Ray has ended on a node before the experiment began" in output, output
    assert not slurm.run_directory(job).exists()
    ends_clean()
    say("a ray start that fails makes the job fail, and its message says so")

    job = submit(*small, script=sweep("8", "150", "1", "--checkpoint-interval", "0"))
    wait_until(lambda: slurm.reported(job) > 40, "reports")
    run("scancel", job)
    slurm.finish(job, "CANCELLED")
    before = slurm.reported(job)
    assert 40 < before < 300, before
    ends_clean()
    assert slurm.state(job) == "CANCELLED"  # and not back in the queue
    resumed = submit(
        *small, script=("experiments/depth_sweep.py", "--resume", f"runs/depth_sweep/{job}")
    )
    slurm.finish(resumed)
    assert slurm.steps(job) == [list(range(1, 151))] * 2  # nothing twice, nothing missing
    ends_clean()
    say(f"scancel after {before} of 300 reports; --resume did the others")

    job = submit(*small, script=sweep("8", EPOCHS, "2"))
    wait_until(lambda: slurm.reported(job) > 40, "reports")
    assert slurm.state(job) == "RUNNING"
    # Slurm counts in minutes, and looks every 30 seconds: this one is due at its next look
    elapsed = run("squeue", "-h", "-j", job, "-O", "TimeUsed").strip().split(":")
    run("scontrol", "update", f"JobId={job}", f"TimeLimit={int(elapsed[-2]) + 2}")
    wait_until(lambda: slurm.state(job) == "PENDING", "the job to be back in the queue", 180)
    saved = slurm.reported(job)
    run("scontrol", "update", f"JobId={job}", "TimeLimit=10")
    output = slurm.finish(job)
    restarts = re.search(r"Restarts=(\d+)", run("scontrol", "show", "job", job))
    assert restarts is not None
    assert int(restarts[1]) == 1, output
    assert 40 < saved < 4 * int(EPOCHS)
    assert slurm.steps(job) == [list(range(1, int(EPOCHS) + 1))] * 4
    ends_clean()
    say(
        f"time limit: back in the queue with {saved} of {4 * int(EPOCHS)} reports; 4 of 4 trials done"
    )


EPOCHS = "600"
"""Long enough that the time limit comes in the middle: Slurm notices it up to 30 seconds late."""


def main() -> int:
    reason = reason_to_skip()
    if reason is not None:
        print(f"skipped: {reason}")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RUN_ROOT"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory(prefix="labs-slurm-", dir="/tmp") as directory:
        slurm = Slurm(Path(directory))
        try:
            slurm.start()
            say("a Slurm of two nodes")
            scenario(slurm)
        except BaseException:
            for path in [*slurm.work.glob("*.log"), *slurm.project.glob("*.log")]:
                print(f"--- {path.name}\n{path.read_text(errors='replace')[-4000:]}")
            raise
        finally:
            slurm.stop()
    say("all steps passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
