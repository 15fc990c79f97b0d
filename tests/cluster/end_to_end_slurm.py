"""`sbatch cluster/slurm.sh` end to end, on a Slurm that this script starts. Root on Linux only.

    make test-slurm

Its controller and its two nodes are hosts of their own (simulated_hosts.py): each has its address, its
processes and its ``/tmp``; all see the project's directory. A Slurm that runs here is not touched. The
script is the one that users start; nothing in it is replaced.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from simulated_hosts import (
    ROOT,
    Host,
    connect_hosts,
    enter_namespaces,
    reason_to_skip,
    run,
    say,
    start_host,
    wait_until,
)

SERVERS = ("munged", "slurmctld", "slurmd")
TOOLS = (*SERVERS, "sbatch", "srun", "scancel", "scontrol", "squeue")
CONTROLLER, NODES = "10.78.0.254", {"one": "10.78.0.1", "two": "10.78.0.2"}
CONFIG = """
ClusterName=labs
SlurmctldHost=controller({controller})
SlurmUser=root
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
SwitchType=switch/none
StateSaveLocation={work}/state
SlurmdSpoolDir={work}/spool-%n
SlurmctldPidFile={work}/slurmctld.pid
SlurmdPidFile={work}/slurmd-%n.pid
SlurmctldLogFile={work}/slurmctld.log
SlurmdLogFile={work}/slurmd-%n.log
NodeName=one NodeAddr={nodes[one]} CPUs=2 RealMemory=8000
NodeName=two NodeAddr={nodes[two]} CPUs=2 RealMemory=8000
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP DefMemPerCPU=2000
"""


class Slurm:
    """A Slurm with two nodes; ``project`` is the directory that users submit from."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.project = work / "project"
        self.hosts: dict[str, Host] = {}

    def start(self) -> None:
        work = self.work
        self.project.mkdir()
        for name in ("experiments", "cluster", "labs"):  # as they are now, whoever edits them
            shutil.copytree(ROOT / name, self.project / name)
        os.environ["PYTHONPATH"] = str(self.project)
        (self.project / ".venv").symlink_to(sys.prefix)
        for name in ("state", "spool-one", "spool-two"):
            (work / name).mkdir()
        key = work / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        text = CONFIG.format(controller=CONTROLLER, nodes=NODES, work=work)
        (work / "slurm.conf").write_text(text)
        os.environ["SLURM_CONF"] = str(work / "slurm.conf")
        run("hostname", "controller")
        connect_hosts(CONTROLLER)
        self._serve("munged", "--foreground", "--force", *self._munge_files())
        wait_until((work / "munge.socket").exists, "munged", 20)
        self._serve("slurmctld", "-D")
        for node, address in NODES.items():
            # Not by `exec`: the first process of a host has to care for orphans, which bash does.
            server = f"mount -t tmpfs none /tmp; slurmd -D -N {node} >{work}/{node}.out 2>&1 & wait"
            self.hosts[node] = start_host(node, address, CONTROLLER, server)
        wait_until(lambda: self._nodes() == ["idle", "idle"], "both nodes to be idle", 60)

    def _munge_files(self) -> list[str]:
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log"}
        return [f"--{o}={self.work}/munge.{n}" for o, n in files.items()] + [
            f"--seed-file={self.work}/munge.seed"
        ]

    def _serve(self, *command: str) -> None:
        with open(self.work / f"{command[0]}.out", "wb") as log:
            subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _nodes(self) -> list[str]:
        listed = subprocess.run(
            ["sinfo", "-h", "-N", "-o", "%t"], check=False, capture_output=True, text=True
        )
        return listed.stdout.split()

    def stop(self) -> None:
        """End all jobs and wait until they have: the servers end with this script's namespaces."""
        run("scancel", "--user=root")
        wait_until(lambda: not run("squeue", "--noheader").strip(), "an empty queue", 120)

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

    def finish(self, job: str, expected: str = "COMPLETED", seconds: float = 1800) -> str:
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

    def pace(self, job: str) -> float:
        """Reports per second of a job."""
        wait_until(lambda: self.reported(job) >= 10, "reports")
        first, begun = self.reported(job), time.monotonic()
        time.sleep(3)
        return (self.reported(job) - first) / (time.monotonic() - begun)


def left_behind(slurm: Slurm, jobs: list[str]) -> list[str]:
    """Directories and processes of these jobs' Rays, on all hosts."""
    directories = [f"/tmp/ray-{job}" for job in jobs]
    found = []
    for name, host in slurm.hosts.items():
        found += [f"{name}:{path}" for path in directories if host.has(path)]
        lines = host.processes()
        found += [line for line in lines for path in directories if f"{path}/" in line]
    return found


def take_port(host: Host, port: int) -> subprocess.Popen[bytes]:
    """Another program on a host that listens on a port, as soon as this returns."""
    code = (
        "import socket, sys, time; s = socket.socket(); s.bind(('0.0.0.0', int(sys.argv[1])));"
        "s.listen(); time.sleep(600)"
    )
    program = subprocess.Popen(host.command(sys.executable, "-c", code, str(port)))
    wait_until(lambda: any(a.endswith(f":{port}") for a in host.listening()), "the port", 20)
    return program


def sweep(depth: str, epochs: str, seeds: str, *more: str) -> tuple[str, ...]:
    grid = ("--families", "mlp", "--depths", depth, "--epochs", epochs, "--seeds", seeds)
    return ("experiments/depth_sweep.py", *grid, *more)


def scenario(slurm: Slurm) -> None:
    jobs: list[str] = []
    small = ("--cpus-per-task=1", "--time=10")

    def ends_clean() -> None:
        wait_until(lambda: not left_behind(slurm, jobs), "the last of Ray", 60)

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

    taken = take_port(slurm.hosts["one"], 20000 + (int(jobs[-1]) + 1) % 6000 * 2)
    job = submit(*small, "--nodes=1", "--nodelist=one", script=sweep("1", "1", "1"))
    output = slurm.finish(job, "FAILED")
    taken.kill()
    assert "Ray has ended on a node before the experiment began" in output, output
    assert not slurm.run_directory(job).exists()
    ends_clean()
    say("a ray start that fails makes the job fail, and its message says so")

    job = submit(*small, script=sweep("8", "150", "1", "--checkpoint-interval", "0"))
    pace = slurm.pace(job)
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

    # Slurm notices the time limit up to 30 seconds late: it must come in the middle, on any machine
    epochs = max(150, round(180 * pace / 4))
    job = submit(*small, script=sweep("8", str(epochs), "2"))
    wait_until(lambda: slurm.reported(job) > 40, "reports")
    assert slurm.state(job) == "RUNNING"
    # Slurm counts in minutes, and looks every 30 seconds: this one is due at its next look
    elapsed = run("squeue", "-h", "-j", job, "-O", "TimeUsed").strip().split(":")
    run("scontrol", "update", f"JobId={job}", f"TimeLimit={int(elapsed[-2]) + 2}")
    wait_until(lambda: slurm.state(job) == "PENDING", "the job to be back in the queue", 180)
    saved = slurm.reported(job)
    run("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    output = slurm.finish(job)
    restarts = re.search(r"Restarts=(\d+)", run("scontrol", "show", "job", job))
    assert restarts is not None
    assert int(restarts[1]) == 1, output
    assert 40 < saved < 4 * epochs
    assert slurm.steps(job) == [list(range(1, epochs + 1))] * 4
    ends_clean()
    say(f"time limit: back in the queue with {saved} of {4 * epochs} reports; 4 of 4 trials done")


def main() -> int:
    reason = reason_to_skip(TOOLS, "slurm-wlm munge")
    if reason is not None:
        print(f"skipped: {reason}")
        return 0
    if "--inside" not in sys.argv:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # takes the namespaces along
        # Not below /tmp, of which each node has its own
        with tempfile.TemporaryDirectory(prefix="labs-slurm-", dir="/var/tmp") as work:
            return enter_namespaces(__file__, work)
    run("mount", "--make-rprivate", "/")
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RUN_ROOT"):
        os.environ.pop(name, None)
    slurm = Slurm(Path(sys.argv[-1]))
    try:
        slurm.start()
        say("a Slurm of two nodes")
        scenario(slurm)
        slurm.stop()
    except BaseException:
        logs = [*slurm.work.glob("*.log"), *slurm.work.glob("*.out"), *slurm.project.glob("*.log")]
        for path in logs:
            print(f"--- {path.name}\n{path.read_text(errors='replace')[-4000:]}")
        raise
    say("all steps passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
