"""Hosts made of namespaces, for `make test-cluster` and `make test-slurm`. Root on Linux only.

Each has its own network address, processes, name and shared memory; the file system is this machine's,
apart from what is mounted over it. All of them are in namespaces of the script that uses them, so
that nothing outlives the script and nothing else on the machine is touched.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
TOOLS = ("ip", "unshare", "nsenter", "mount", "ss")
NAMESPACES = (
    "--net",
    "--mount",
    "--pid",
    "--uts",
    "--ipc",
    "--fork",
    "--kill-child",
    "--mount-proc",
)
BEGUN = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - BEGUN:5.1f}s] {text}", flush=True)


def reason_to_skip(tools: Sequence[str], packages: str) -> str | None:
    """Why a script that needs these tools cannot run here."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "it needs root on Linux, for network namespaces"
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = [tool for tool in (*TOOLS, *tools) if shutil.which(tool) is None]
    if missing:
        return f"missing {', '.join(missing)} (Debian: {packages} iproute2)"
    tried = subprocess.run(["unshare", *NAMESPACES, "true"], check=False, capture_output=True)
    return None if tried.returncode == 0 else "namespaces cannot be created here"


def enter_namespaces(script: str, work: str, cwd: Path | None = None) -> int:
    """Run a script again as ``script --inside WORK``, in its own namespaces; its exit status."""
    command = ["unshare", *NAMESPACES, sys.executable, script, "--inside", work]
    return subprocess.run(command, check=False, cwd=cwd).returncode


def run(*command: str, quiet: bool = True, cwd: Path | None = None) -> str:
    done = subprocess.run(command, check=False, capture_output=quiet, text=True, cwd=cwd)
    if done.returncode != 0:
        output = f"{done.stdout}\n{done.stderr}" if quiet else ""
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}\n{output[-6000:]}")
    return done.stdout or ""


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g}s for: {what}")
        time.sleep(0.3)


@dataclass
class Host:
    """A simulated machine; ``pid`` is its first process, seen from here."""

    address: str
    pid: int

    def command(self, *command: str) -> list[str]:
        return ["nsenter", "--target", str(self.pid), "--all", *command]

    def processes(self) -> list[str]:
        """Command lines of all its processes."""
        return run(*self.command("ps", "-eo", "args=")).splitlines()

    def listening(self) -> list[str]:
        """``address:port`` of its open TCP ports."""
        return [line.split()[3] for line in run(*self.command("ss", "-Hltn")).splitlines()]

    def has(self, path: str) -> bool:
        """Whether a file or directory is there, as the host sees it."""
        return Path(f"/proc/{self.pid}/root{path}").exists()

    def runs_trials(self) -> bool:
        actors = ("ray::Trial", "ray::ResourceTrainable")  # before and after its first step
        return any(line.startswith(actors) for line in self.processes())

    def kill(self) -> None:
        """End everything at once, as for a reclaimed spot instance."""
        os.kill(self.pid, signal.SIGKILL)


def connect_hosts(gateway: str) -> None:
    """The network that hosts are connected to; ``gateway`` is this script's own address in it."""
    run("ip", "link", "set", "lo", "up")
    run("ip", "link", "add", "bridge", "type", "bridge")
    run("ip", "addr", "add", f"{gateway}/24", "dev", "bridge")
    run("ip", "link", "set", "bridge", "up")


def start_host(name: str, address: str, gateway: str, commands: str) -> Host:
    """A machine that runs ``commands`` of bash as soon as it has its network."""
    begin = (
        f"hostname {name}; mount -t tmpfs none /dev/shm;"
        " while ! ip -4 -o addr show dev eth0 2>/dev/null | grep -q inet; do sleep 0.05; done;"
        f" {commands}"
    )
    outer = subprocess.Popen(["unshare", *NAMESPACES, "bash", "-c", begin])
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    wait_until(lambda: bool(children.read_text()), f"{name} to begin", 10)
    host = Host(address, int(children.read_text()))
    run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
    run("ip", "link", "set", name, "master", "bridge", "up")
    inside = host.command("ip")
    run(*inside, "link", "set", "lo", "up")
    run(*inside, "link", "set", "eth0", "up")
    run(*inside, "addr", "add", f"{address}/24", "dev", "eth0")
    run(*inside, "route", "add", "default", "via", gateway)  # without one Ray takes 127.0.0.1
    return host
