"""`ray up cluster.yaml` end to end, on three simulated hosts of this machine. Root on Linux only.

    make test-cluster

Each host (simulated_hosts.py) has its own network address, processes, home and SSH server.
cluster.yaml is used as it is, except for the provider, the SSH user and the installation: the nodes find
this interpreter's environment, and the project as Ray copied it.
"""

from __future__ import annotations

import csv
import getpass
import hashlib
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml
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

LAPTOP, HEAD, WORKERS = "10.77.0.254", "10.77.0.1", ("10.77.0.2", "10.77.0.3")
BUCKET = "results"
ENVIRONMENT = {
    "RAY_UP_enable_autoscaler_v2": "0",  # the second version loses a worker with provider: local
    "AUTOSCALER_NODE_START_WAIT_S": "30",
    "RAY_raylet_start_wait_time_s": "180",  # this machine may be busy
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "AWS_ENDPOINT_URL_S3": f"http://{LAPTOP}:5000",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
SSH_CONTROL = Path(f"/tmp/ray_ssh_{hashlib.sha256(getpass.getuser().encode()).hexdigest()[:10]}")
"""Where Ray keeps the sockets of its SSH connections."""


def start_machine(address: str, work: Path) -> Host:
    """A machine with an SSH server that admits the key in ``work``."""
    name = f"host{address.rpartition('.')[2]}"
    home = work / name
    home.mkdir()
    (work / f"{name}.passwd").write_text(
        f"root:x:0:0:root:{home}:/bin/bash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"
    )
    (home / ".bashrc").touch()
    (work / f"{name}.sshd").write_text(
        f"HostKey {work}/host_key\nAuthorizedKeysFile {work}/key.pub\nStrictModes no\nUsePAM no\n"
        f"PasswordAuthentication no\nPidFile none\nListenAddress {address}\n"
        f"SetEnv PATH={os.environ['PATH']}\n"
    )
    commands = (
        f"mount --bind {work}/{name}.passwd /etc/passwd;"
        " mkdir -p /tmp/ray /run/sshd; mount -t tmpfs none /tmp/ray;"
        f" exec {shutil.which('sshd')} -D -E {work}/{name}.log -f {work}/{name}.sshd"
    )
    return start_host(name, address, LAPTOP, commands)


def cluster_file(work: Path) -> Path:
    """cluster.yaml with another provider, another user, and nothing to download."""
    content = yaml.safe_load(Path("cluster.yaml").read_text())
    for key in ("available_node_types", "head_node_type"):
        del content[key]
    content["provider"] = {"type": "local", "head_ip": HEAD, "worker_ips": list(WORKERS)}
    content["auth"] = {"ssh_user": "root", "ssh_private_key": f"{work}/key"}
    content["max_workers"] = len(WORKERS)
    installing = ("apt-get", "venv", "pip")
    kept = [c for c in content["setup_commands"] if "RAY_AUTH_MODE" in c or "chmod" in c]
    swapped = [c for c in content["setup_commands"] if c not in kept]
    assert len(swapped) == 3
    assert all(any(word in command for word in installing) for command in swapped)
    settings = " ".join(
        f"{k}={v}" for k, v in ENVIRONMENT.items() if k.startswith(("AWS_", "RAY_raylet"))
    )
    content["setup_commands"] = [
        f"ln -sfn {sys.prefix} ~/venv",
        f"grep -q PYTHONPATH ~/.bashrc || echo 'export PYTHONPATH=$HOME/labs {settings}' >> ~/.bashrc",
        *kept,
    ]
    path = work / "cluster.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def ray(*arguments: str) -> str:
    return run(f"{sys.prefix}/bin/ray", *arguments)


def labs(*arguments: str) -> str:
    return run(sys.executable, "-m", "labs", *arguments)


def submit(file: Path, name: str, *options: str) -> subprocess.Popen[str]:
    """The depth sweep, as docs/cluster/aws.md has it. Its output goes to ``<name>.log``."""
    command = (f"{sys.prefix}/bin/ray", "submit", "--no-config-cache", str(file))
    experiment = ("experiments/depth_sweep.py", "--run-name", name, "--families", "mlp")
    storage = ("--run-root", f"s3://{BUCKET}/runs")
    with open(file.with_name(f"{name}.log"), "w") as log:
        return subprocess.Popen(
            [*command, *experiment, *storage, *options], stdout=log, stderr=subprocess.STDOUT
        )


def finish(file: Path, name: str, process: subprocess.Popen[str]) -> str:
    status = process.wait(timeout=600)
    output = file.with_name(f"{name}.log").read_text()
    if status != 0:
        raise RuntimeError(f"the sweep ended with {status}")
    return output


def bring_home(file: Path, work: Path, name: str) -> tuple[list[dict[str, str]], list[list[int]]]:
    """The rows of ``results.csv``, and the steps in each trial's history."""
    (work / "home").mkdir(exist_ok=True)
    labs("fetch", str(file), f"depth_sweep/{name}", "--into", f"{work}/home/runs")
    directory = work / "home" / "runs" / "depth_sweep" / name
    with open(directory / "results.csv") as lines:
        rows = list(csv.DictReader(lines))
    steps = []
    for row in rows:
        trial = directory / "tensorboard" / row["name"]
        assert list(trial.glob("events.out.tfevents.*"))
        reports = (trial / "reports.jsonl").read_text().splitlines()
        steps.append([json.loads(report)["step"] for report in reports])
    return rows, steps


def described_git(work: Path, name: str) -> dict[str, str]:
    """The commits in the ``config.json`` of a run that was brought home."""
    path = work / "home" / "runs" / "depth_sweep" / name / "config.json"
    return json.loads(path.read_text())["git"]


def check_closed(head: Host) -> None:
    """The dashboard is on loopback, and nobody joins without the token."""
    dashboards = [a for a in head.listening() if a.endswith(":8265")]
    assert dashboards == ["127.0.0.1:8265"], dashboards
    code = f"import ray; ray.init('{HEAD}:6379', log_to_driver=False)"
    for mode, token in (("disabled", "0"), ("token", "0" * 64)):
        environment = {**os.environ, "RAY_AUTH_MODE": mode, "RAY_AUTH_TOKEN": token}
        refused = subprocess.run(
            head.command(sys.executable, "-c", code),
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            env=environment,
        )
        assert refused.returncode != 0, "a driver without the token has joined"
        assert "uthenticat" in refused.stderr, refused.stderr[-2000:]


def submit_job(file: Path, name: str) -> str:
    """The same experiment as a job, sent from here with its code; what it printed."""
    experiment = ("experiments/depth_sweep.py", "--run-root", f"s3://{BUCKET}/runs")
    options = ("--families", "mlp", "--depths", "1", "--epochs", "2", "--seeds", "1")
    return labs("submit", str(file), *experiment, "--run-name", name, *options)


OWN = """
import os
import socket
import time
from dataclasses import dataclass

import helper
import labs


@dataclass(frozen=True)
class Trial:
    seed: int = 0


def train(config, resume=None):
    print(helper.greeting(config.seed), "on", socket.gethostname())
    os.system("echo and a child process")
    time.sleep(10)
    yield labs.Report(1, {"val/score": float(config.seed)})


if __name__ == "__main__":
    labs.main(train, Trial, metric="val/score")
"""


def check_own_experiment(file: Path, work: Path) -> None:
    """An experiment of two files: the second reaches the workers, and what they print the head."""
    (work / "own.py").write_text(OWN)
    (work / "helper.py").write_text("def greeting(seed):\n    return f'hello from {seed}'\n")
    ray("rsync-up", str(file), str(work / "helper.py"), "~/helper.py")
    options = ("--seeds", "4", "--run-name", "own", "--run-root", f"s3://{BUCKET}/runs")
    command = (f"{sys.prefix}/bin/ray", "submit", "--no-config-cache", str(file))
    with open(work / "own.log", "w") as log:
        process = subprocess.Popen(
            [*command, str(work / "own.py"), *options], stdout=log, stderr=subprocess.STDOUT
        )
    run_directory = work / "host1" / "runs" / "own" / "own"

    def printed() -> list[str]:
        return [path.read_text() for path in sorted((run_directory / "logs").glob("*.txt"))]

    def all_begun() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode}")
        return len(printed()) == 4

    wait_until(all_begun, "what the trials print, while they run")
    time.sleep(1)
    hosts = set()
    for seed, text in enumerate(printed()):
        first, second = text.splitlines()
        assert first.startswith(f"hello from {seed} on host"), text
        assert second == "and a child process", text
        hosts.add(first.split()[-1])
    assert process.poll() is None
    assert hosts == {"host2", "host3"}, hosts
    finish(file, "own", process)


def scenario(work: Path) -> None:
    from moto.server import ThreadedMotoServer

    connect_hosts(LAPTOP)
    storage = ThreadedMotoServer(ip_address=LAPTOP, port=5000, verbose=False)
    storage.start()
    import boto3

    bucket = boto3.resource("s3", endpoint_url=ENVIRONMENT["AWS_ENDPOINT_URL_S3"]).Bucket(BUCKET)
    bucket.create()
    for name in ("key", "host_key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(work / name))
    run("make", "-C", str(ROOT), "cluster-token")
    head, *workers = hosts = [start_machine(address, work) for address in (HEAD, *WORKERS)]
    say(f"three hosts: head {HEAD}, workers {', '.join(WORKERS)}")

    file = cluster_file(work)
    ray("up", "--yes", "--no-config-cache", str(file))
    say("ray up: the head is ready")
    sweep = submit(file, "first", "--depths", "2", "8", "--epochs", "12", "--seeds", "3")
    both: set[str] = set()

    def seen_on_both() -> bool:
        both.update(host.address for host in workers if host.runs_trials())
        if sweep.poll() is not None and len(both) < len(workers):
            raise RuntimeError(f"the sweep ended, and ran on {both or 'nothing'} only")
        return len(both) == len(workers)

    wait_until(seen_on_both, "trials on both workers")
    assert not head.runs_trials()
    finish(file, "first", sweep)
    rows, steps = bring_home(file, work, "first")
    assert [row["status"] for row in rows] == ["done"] * 12, rows
    assert steps == [list(range(1, 13))] * 12
    sent = json.loads(Path("labs/commit.json").read_text())["commit"]
    assert described_git(work, "first") == {"labs": sent, "script": sent}
    say(f"ray submit: {len(rows)} trials done on both workers, results and curves at home")
    check_closed(head)
    say(
        "closed: dashboard on 127.0.0.1 only; no driver joins without the token or with a wrong one"
    )

    check_own_experiment(file, work)
    say("an experiment of two files on both workers, what they print on the head while they run")

    output = submit_job(file, "job")
    assert "[2/2] done" in output, output
    assert "SUCCEEDED" in labs("submit", str(file), "--status")
    rows, steps = bring_home(file, work, "job")
    assert [row["status"] for row in rows] == ["done"] * 2, rows
    assert steps == [[1, 2]] * 2
    assert described_git(work, "job") == {"labs": sent, "script": sent}
    say(f"labs submit through a tunnel: {len(rows)} trials done")

    options = (
        "--depths",
        "8",
        "--epochs",
        "150",
        "--max-failures",
        "3",
        "--checkpoint-interval",
        "1",
    )
    sweep = submit(file, "second", *options, "--seeds", "2")
    wait_until(workers[1].runs_trials, f"a trial on {WORKERS[1]}")

    def checkpoints() -> int:
        keys = [o.key for o in bucket.objects.filter(Prefix="runs/depth_sweep/second")]
        return sum(key.endswith("last.pt") for key in keys)

    wait_until(lambda: checkpoints() >= 4, "checkpoints of all trials in the bucket")
    assert workers[1].runs_trials()
    workers[1].kill()
    say(f"worker {WORKERS[1]} killed in mid-sweep")
    output = finish(file, "second", sweep)
    rows, steps = bring_home(file, work, "second")
    assert [row["status"] for row in rows] == ["done"] * 4, rows
    assert steps == [list(range(1, 151))] * 4  # nothing twice, nothing missing
    retried = output.count("retry ")
    assert retried >= 1, output
    say(f"{retried} trials moved and went on from s3://{BUCKET}; {len(rows)} of {len(rows)} done")

    ray("down", "--yes", str(file))
    alive = [host for host in hosts if host is not workers[1]]

    def left() -> list[str]:
        words = ("raylet", "gcs_server", "ray::", "monitor.py")
        return [
            line for host in alive for line in host.processes() if any(w in line for w in words)
        ]

    wait_until(lambda: not left(), "the last process of Ray to end", 180)
    say("ray down: no process of Ray is left on any host")
    storage.stop()


def main() -> int:
    reason = reason_to_skip(
        ("sshd", "ssh", "ssh-keygen", "rsync"), "openssh-server openssh-client rsync"
    )
    if reason is not None:
        print(f"skipped: {reason}")
        return 0
    if "--inside" not in sys.argv:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # takes the namespaces along
        with tempfile.TemporaryDirectory(prefix="labs-cluster-", dir="/tmp") as work:
            run(sys.executable, "-m", "labs.cluster.commit", cwd=ROOT)
            project = Path(work) / "project"  # as it is now, whoever edits it meanwhile
            for name in (
                "labs",
                "experiments",
                "cluster.yaml",
                "pyproject.toml",
                "constraints.txt",
            ):
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
                project.mkdir(exist_ok=True)
                copy(ROOT / name, project / name)
            status = enter_namespaces(__file__, work, project)
        left = [p for p in Path("/tmp").glob("labs-cluster-*")] + [
            name for name in os.listdir("/sys/class/net") if name.startswith(("host1", "host2"))
        ]
        assert not left, left
        return status
    work = Path(sys.argv[-1])
    # Everything that Ray writes under /tmp stays in this script's own file system.
    run("mount", "--make-rprivate", "/")
    for directory in (Path("/tmp/ray"), SSH_CONTROL):
        directory.mkdir(exist_ok=True)
        run("mount", "-t", "tmpfs", "none", str(directory))
    os.environ.update(ENVIRONMENT, HOME=str(work / "laptop"), TMPDIR=str(work))
    os.environ.pop("RAY_ADDRESS", None)
    (work / "laptop").mkdir()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    try:
        scenario(work)
    except BaseException:
        for log in work.glob("*.log"):
            print(f"--- {log.name}\n{log.read_text()[-4000:]}", file=sys.stderr)
        raise
    say("all steps passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
