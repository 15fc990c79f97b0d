"""Running a script of this machine as a job on a cluster, and fetching its results."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from labs.cluster.file import load
from labs.cluster.jobs import FAILED, SUCCEEDED, Job, Jobs
from labs.runtime.errors import InputError
from labs.runtime.loop.console import say
from labs.runtime.loop.waiting import report_while_waiting
from labs.runtime.machine import commits
from labs.runtime.options import expand_user

MAX_CODE_BYTES = 100 * 2**20
"""Largest code of a job. Ray's own limit is 500 MiB, but every machine downloads the code."""

NOT_CODE = ("runs", "data", "checkpoints")
"""Top-level folders of a project without git that are not sent. Further down they may contain code.
Hidden files and ``__pycache__`` are not sent either."""

TUNNEL_SECONDS = 60.0

RAY = Path(sys.executable).with_name("ray")
"""The ``ray`` command that belongs to this Python."""


def project_of(script: Path) -> Path:
    """The folder to send: the closest one above the script with a pyproject.toml or .git, else its own."""
    for folder in script.resolve().parents:
        if (folder / "pyproject.toml").is_file() or (folder / ".git").exists():
            return folder
    return script.resolve().parent


def code_files(project: Path) -> list[Path]:
    """The files of a project that are sent, without those that git ignores."""
    listed = commits.git_files(project)
    if listed is None:
        found = []
        for folder, folders, names in os.walk(project):
            left_out = NOT_CODE if Path(folder) == project else ()
            folders[:] = [f for f in folders if f not in (*left_out, "__pycache__") and f[0] != "."]
            found += [Path(folder, name) for name in names if not name.startswith(".")]
        return sorted(found)
    return sorted(path for path in listed if path.is_file())


def pack(project: Path) -> tuple[str, bytes]:
    """A project's code: a name that depends on the content, and the zip file.

    Raises:
        InputError: it is too large.
    """
    files = code_files(project)
    sizes = {path: path.stat().st_size for path in files}
    if sum(sizes.values()) > MAX_CODE_BYTES:
        largest = max(sizes, key=lambda path: sizes[path])
        raise InputError(
            f"the code in {project} is {sum(sizes.values()) / 2**20:.0f} MiB, and at most"
            f" {MAX_CODE_BYTES / 2**20:.0f} MiB are sent: add data to .gitignore (the largest file is"
            f" {largest.relative_to(project)})"
        )
    stamp = project / "labs" / commits.STAMP
    if commits.write_stamp(project / "labs") is not None and stamp not in files:
        files.append(stamp)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            # ZipInfo has a fixed time, so that the same code gets the same name and is stored once.
            entry = zipfile.ZipInfo(path.relative_to(project).as_posix())
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (path.stat().st_mode & 0xFFFF) << 16
            archive.writestr(entry, path.read_bytes())
    content = buffer.getvalue()
    return f"_ray_pkg_{hashlib.sha256(content).hexdigest()[:16]}.zip", content


def command_on_head(script: Path, project: Path, options: Sequence[str]) -> str:
    """The command that runs a script of the project on the head.

    It starts in the folder of the code, which is deleted with the job, and changes to the home
    directory, where ``runs/`` is kept.
    """
    where = shlex.quote(script.resolve().relative_to(project.resolve()).as_posix())
    start = (
        'code="$PWD" && cd ~ && PYTHONPATH="$code${PYTHONPATH:+:$PYTHONPATH}" exec python "$code"'
    )
    return f"{start}/{where} {shlex.join(options)}".rstrip()


def read_token() -> str | None:
    """The cluster's token, which ``make cluster-token`` creates; None if there is none."""
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    path = expand_user(os.environ.get("RAY_AUTH_TOKEN_PATH") or "~/.ray/auth_token")
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


@contextlib.contextmanager
def tunnel(file: Path) -> Iterator[str]:
    """An SSH tunnel to the dashboard of a cluster; yields the address of its local end.

    Args:
        file: the cluster file.

    Raises:
        InputError: there is no such file, or its cluster is not running.
    """
    load(file)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [str(RAY), "dashboard", str(file), "--port", str(port)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that Ctrl-C ends only this command, which needs the tunnel
        )
        try:
            with report_while_waiting("the tunnel to the head"):
                _wait_for_tunnel(process, port, file)
            yield f"http://127.0.0.1:{port}"
        except InputError as error:
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines()
            reason = f" ({lines[-1].strip()})" if lines and process.poll() is not None else ""
            raise InputError(f"{error}{reason}") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def _wait_for_tunnel(process: subprocess.Popen[bytes], port: int, file: Path) -> None:
    deadline = time.monotonic() + TUNNEL_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.2)
    raise InputError(f"no tunnel to the cluster of {file}: is it running (`ray up {file}`)?")


def start(jobs: Jobs, script: Path, options: Sequence[str], name: str | None = None) -> str:
    """Send a script with its project and start it; returns the job's name.

    Args:
        jobs: the jobs of the cluster.
        script: a Python file on this machine.
        options: options of the script.
        name: name of the job; the default is made of the script's name and the time.

    Raises:
        InputError: there is no such script, its project is too large, or the cluster refuses the job.
    """
    if not script.is_file():
        raise InputError(f"`script` {script} is not a file")
    project = project_of(script)
    package, content = pack(project)
    stem = re.sub(r"[^\w.-]+", "-", script.stem)
    name = name or f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder = script.resolve().parent.relative_to(project.resolve()).as_posix()
    jobs.submit(name, command_on_head(script, project, options), package, content, folder)
    return name


def watch(jobs: Jobs, name: str) -> int:
    """Print a job's output until it has ended; returns the exit status of this command."""
    for piece in jobs.follow(name):
        sys.stdout.write(piece)
        sys.stdout.flush()
    job = jobs.job(name)
    if job.status == SUCCEEDED:
        return 0
    say(describe(job))
    return 1


def describe(job: Job) -> str:
    """``depth_sweep-20260101-120000  RUNNING  since 12:00  python ...``."""
    began = (
        ""
        if job.began is None
        else f"  since {time.strftime('%F %H:%M', time.localtime(job.began))}"
    )
    command = job.command.rpartition('exec python "$code"/')[2]
    why = f"  ({job.message})" if job.status == FAILED and job.message else ""
    return f"{job.name}  {job.status}{began}  {command}{why}"


def fetch(file: Path, run: str | None, into: Path) -> None:
    """Download the runs in ``~/runs`` of the head.

    Args:
        file: the cluster file.
        run: ``EXPERIMENT/RUN`` for one run; None for all.
        into: local directory of runs.

    Raises:
        InputError: there is no such file or no such run, or the cluster is not running.
    """
    load(file)
    part = f"{run.strip('/')}/" if run else ""
    (into / part).mkdir(parents=True, exist_ok=True)
    command = [str(RAY), "rsync-down", str(file), f"~/runs/{part}", f"{into}/{part}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        with contextlib.suppress(OSError):  # it is kept if it is not empty
            (into / part).rmdir()
        reason = lines[-1].strip() if lines else "no reason given"
        raise InputError(f"cannot fetch ~/runs/{part} from the head: {reason}")
