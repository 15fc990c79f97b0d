"""Jobs on a cluster: the code that goes along, Ray's interface (a fake one and the real one), results."""

from __future__ import annotations

import contextlib
import http.server
import io
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labs.cluster import submit
from labs.cluster.jobs import Job, Jobs
from labs.cluster.submit import command_on_head, describe, fetch, pack, project_of, start, watch
from labs.commands import cli as commands
from labs.commands import submit as command
from labs.runtime.errors import InputError

FILE = Path(__file__).parent.parent.parent / "cluster.yaml"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a script in a folder, data that git ignores, and nothing committed."""
    root = tmp_path / "my project"
    (root / "studies").mkdir(parents=True)
    (root / "studies" / "helper.py").write_text("ANSWER = 42\n")
    (root / "studies" / "a study.py").write_text(
        "import os, sys, helper\nprint(helper.ANSWER, os.getcwd(), *sys.argv[1:], sep='|')\n"
    )
    (root / "data").mkdir()
    (root / "data" / "large.bin").write_bytes(os.urandom(1000))
    (root / "studies" / "data").mkdir()
    (root / "studies" / "data" / "load.py").touch()
    (root / "studies" / "__pycache__").mkdir()
    (root / "studies" / "__pycache__" / "load.pyc").touch()
    (root / ".hidden").mkdir()
    (root / ".hidden" / "secret").write_text("x")
    return root


def names(content: bytes) -> set[str]:
    return set(zipfile.ZipFile(io.BytesIO(content)).namelist())


CODE = {"studies/helper.py", "studies/a study.py", "studies/data/load.py"}


def test_the_code_without_git_and_with_it(project: Path) -> None:
    assert names(pack(project)[1]) == CODE
    subprocess.run(["git", "init", "-q"], cwd=project, check=True)
    (project / ".gitignore").write_text("/data/\n.hidden/\n__pycache__/\n")
    assert names(pack(project)[1]) == CODE | {".gitignore"}  # not committed, but not ignored either
    subprocess.run(["git", "add", "."], cwd=project, check=True)
    (project / "studies" / "helper.py").unlink()  # tracked, and no longer there
    assert names(pack(project)[1]) == CODE - {"studies/helper.py"} | {".gitignore"}


def test_the_same_code_has_the_same_name(project: Path) -> None:
    name, content = pack(project)
    assert re.fullmatch(r"_ray_pkg_[0-9a-f]{16}\.zip", name)
    helper = project / "studies" / "helper.py"
    os.utime(helper, (1, 1))
    assert pack(project) == (name, content)
    helper.write_text("ANSWER = 43\n")
    assert pack(project)[0] != name


def test_too_much_code_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "studies" / "weights.bin").write_bytes(bytes(3 * 2**20))
    monkeypatch.setattr(submit, "MAX_CODE_BYTES", 2 * 2**20)
    with pytest.raises(InputError, match=r"is 3 MiB, and at most 2 MiB .* studies/weights\.bin\)"):
        pack(project)


def test_what_is_sent_is_the_project_of_the_script(project: Path, tmp_path: Path) -> None:
    script = project / "studies" / "a study.py"
    assert project_of(script) == project / "studies"
    (project / "pyproject.toml").touch()
    assert project_of(script) == project
    assert project_of(FILE.parent / "experiments" / "depth_sweep.py") == FILE.parent


def test_the_command_imports_the_code_and_runs_in_the_home_directory(
    project: Path, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    options = ["--name", "it's $HOME", "a b"]
    done = subprocess.run(
        command_on_head(project / "studies" / "a study.py", project, options),
        shell=True,
        check=True,
        capture_output=True,
        text=True,
        cwd=project,
        env={"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HOME": str(tmp_path / "home")},
    )
    assert done.stdout == f"42|{tmp_path}/home|--name|it's $HOME|a b\n"


class FakeHead(http.server.BaseHTTPRequestHandler):
    """Ray's interface as far as jobs go: a job prints a line whenever it is asked how it is."""

    token = "t" * 64
    asked: list[tuple[str, str]]
    jobs: dict[str, dict[str, Any]]
    refuse: str | None

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.asked.append((self.command, self.path))
        if self.headers.get("Authorization") != f"Bearer {self.token}":
            self.reply(401, "Unauthorized")
        elif self.refuse:
            self.reply(500, self.refuse)
        elif self.command == "POST" and self.path == "/api/jobs/":
            job = json.loads(body)
            job |= {"status": "RUNNING", "message": "m", "start_time": 1700000000000, "lines": 0}
            self.jobs[job["submission_id"]] = job
            self.reply(200, "{}")
        elif self.command == "GET" and self.path == "/api/jobs/":
            other = {"submission_id": None, "type": "DRIVER"}
            self.reply(200, json.dumps([other, *self.jobs.values()]))
        elif self.command == "PUT":
            self.reply(200, "{}")
        else:
            self.of_a_job(self.jobs[self.path.split("/")[3]])

    do_GET = do_POST = do_PUT = answer

    def of_a_job(self, job: dict[str, Any]) -> None:
        if self.path.endswith("/logs"):
            text = "".join(f"line {number}\n" for number in range(job["lines"]))
            self.reply(200, json.dumps({"logs": text}))
            return
        if self.path.endswith("/stop"):
            job["status"] = "STOPPED"
        elif job["status"] == "RUNNING":
            job["lines"] += 1
            job["status"] = job.get("end", "SUCCEEDED") if job["lines"] == 3 else "RUNNING"
        self.reply(200, json.dumps(job))

    def reply(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def head() -> Iterator[tuple[str, type[FakeHead]]]:
    state = type("Head", (FakeHead,), {"asked": [], "jobs": {}, "refuse": None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), state)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", state
    server.shutdown()


def test_a_job_is_sent_watched_listed_and_ended(
    head: tuple[str, type[FakeHead]], project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, state = head
    jobs = Jobs(address, state.token)
    name = start(jobs, project / "studies" / "a study.py", ["--seeds", "3"], "first")
    assert name == "first"
    package = pack(project / "studies")[0]
    assert state.asked == [("PUT", f"/api/packages/gcs/{package}"), ("POST", "/api/jobs/")]
    assert state.jobs["first"]["runtime_env"] == {
        "working_dir": f"gcs://{package}",
        "env_vars": {"PYTHONPATH": "."},
    }
    assert "".join(jobs.follow("first", pause=0)) == "line 0\nline 1\nline 2\n"
    assert watch(jobs, "first") == 0
    assert capsys.readouterr().out == "line 0\nline 1\nline 2\n"
    second = start(jobs, project / "studies" / "a study.py", [])
    assert re.fullmatch(r"a-study-\d{8}-\d{6}", second)
    state.jobs[second]["end"] = "FAILED"
    "".join(jobs.follow(second, pause=0))
    assert watch(jobs, second) == 1
    assert f"{second}  FAILED  since 2023-11-1" in capsys.readouterr().out
    assert [(job.name, job.status) for job in jobs.all()] == [
        ("first", "SUCCEEDED"),
        (second, "FAILED"),
    ]
    state.jobs["first"]["status"] = "RUNNING"
    jobs.stop("first")
    assert jobs.job("first").status == "STOPPED"


def test_the_commands(
    head: tuple[str, type[FakeHead]],
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    address, state = head

    @contextlib.contextmanager
    def tunnel(file: Path) -> Iterator[str]:
        assert file == FILE
        yield address

    def labs(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            commands.main(["submit", str(FILE), *arguments])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    monkeypatch.setattr(command, "tunnel", tunnel)
    monkeypatch.setenv("RAY_AUTH_TOKEN", state.token)
    assert labs("--status") == (0, "no job has been submitted to this cluster\n", "")
    monkeypatch.setattr(Jobs.follow, "__defaults__", (0,))
    # What follows the script is the script's, whatever it looks like
    status, out, _ = labs(str(project / "studies" / "a study.py"), "--stop", "1e-3", "--help")
    assert status == 0
    (name,) = state.jobs
    assert out.startswith(f"job {name}: Ctrl-C leaves it running\nline 0\nline 1\nline 2\n")
    assert out.endswith(f"labs fetch {FILE}\n")
    assert state.jobs[name]["entrypoint"].endswith("'a study.py' --stop 1e-3 --help")
    status, out, _ = labs("--status")
    assert (status, out.count("\n")) == (0, 1)
    assert out.startswith(f"{name}  SUCCEEDED  since ")
    assert labs("--log", name)[1].startswith("line 0\nline 1\nline 2\n")
    assert labs("--stop", name) == (2, "", f"error: --stop {name}: this job has already ended\n")
    state.jobs[name]["status"] = "RUNNING"
    assert labs("--stop", name) == (0, f"job {name} is being stopped\n", "")
    assert state.jobs[name]["status"] == "STOPPED"
    wrong = "error: give exactly one of a script, --status, --log and --stop\n"
    for arguments in ([], ["--status", "--log", "x"], ["--status", "x.py"]):
        assert labs(*arguments) == (2, "", wrong)
    assert labs("x.py") == (2, "", "error: --script x.py is not a file\n")

    def interrupt(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "watch", interrupt)
    status, out, _ = labs("--log", name)
    assert status == 0
    assert f"job {name} is still running: labs submit {FILE} --log {name} shows it" in out


def test_refusals_are_one_sentence(head: tuple[str, type[FakeHead]], project: Path) -> None:
    address, state = head
    for token in (None, "0" * 64):
        with pytest.raises(InputError, match=r"refused the token: .*\.ray/auth_token"):
            Jobs(address, token).all()
    state.refuse = "Traceback:\n  File x\nValueError: job first exists already\n.\n"
    with pytest.raises(InputError, match=r"^the cluster refused: ValueError: job first exists"):
        Jobs(address, state.token).job("first")
    with pytest.raises(InputError, match=r"does not answer at http://127\.0\.0\.1:1: .*refused"):
        Jobs("http://127.0.0.1:1").all()
    with pytest.raises(InputError, match=r"`script` .*/none\.py is not a file"):
        start(Jobs(address, state.token), project / "none.py", [])


def test_a_job_in_a_line() -> None:
    job = Job("a", "FAILED", 'code="$PWD" && cd ~ && exec python "$code"/x.py -v', "died", None)
    assert describe(job) == "a  FAILED  x.py -v  (died)"


def test_the_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert submit.read_token() is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("of-the-file\n")
    assert submit.read_token() == "of-the-file"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-the-shell")
    assert submit.read_token() == "of-the-shell"


FAKE_RAY = """#!{python}
import http.server, pathlib, sys
command, file, *rest = sys.argv[1:]
if "broken" in file:
    sys.exit("no head node found")
if command == "dashboard":
    http.server.HTTPServer(("127.0.0.1", int(rest[1])), http.server.BaseHTTPRequestHandler).serve_forever()
source, target = rest
if "none" in source:
    sys.exit("rsync: no such directory")
pathlib.Path(target, "results.csv").write_text(source)
"""


@pytest.fixture
def fake_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ray"
    path.write_text(FAKE_RAY.format(python=sys.executable))
    path.chmod(0o755)
    monkeypatch.setattr(submit, "RAY", path)


def test_the_tunnel_is_open_only_within_the_block(fake_ray: None, tmp_path: Path) -> None:
    with submit.tunnel(FILE) as address, pytest.raises(InputError, match="refused: Unsupported"):
        Jobs(address).all()
    with pytest.raises(InputError, match="does not answer"):
        Jobs(address).all()
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: 1\n")
    expected = r"no tunnel to the cluster of .*: is it running .* \(no head node found\)"
    with pytest.raises(InputError, match=expected), submit.tunnel(broken):
        pass
    with pytest.raises(InputError, match="cannot be read"), submit.tunnel(tmp_path / "no.yaml"):
        pass


def test_results_are_downloaded(fake_ray: None, tmp_path: Path) -> None:
    fetch(FILE, "sweep/first", tmp_path / "runs")
    fetch(FILE, None, tmp_path / "runs")
    found = {p.relative_to(tmp_path): p.read_text() for p in tmp_path.rglob("results.csv")}
    assert found == {
        Path("runs/sweep/first/results.csv"): "~/runs/sweep/first/",
        Path("runs/results.csv"): "~/runs/",
    }
    with pytest.raises(InputError, match=r"fetch ~/runs/x/none/ from the head: rsync: no such"):
        fetch(FILE, "x/none", tmp_path / "runs")
    assert not (tmp_path / "runs" / "x" / "none").exists()


@pytest.fixture
def real_head(tmp_path: Path) -> Iterator[str]:
    """The address of the dashboard of a Ray with a token, whose home is ``tmp_path / "home"``."""
    (tmp_path / "home").mkdir()
    sockets = [socket.socket() for _ in range(3)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    port, dashboard, client = (each.getsockname()[1] for each in sockets)
    for each in sockets:
        each.close()
    with tempfile.TemporaryDirectory(
        prefix="ray-", dir="/tmp", ignore_cleanup_errors=True
    ) as short:
        options = {
            "port": port,
            "dashboard-port": dashboard,
            "ray-client-server-port": client,
            "dashboard-agent-listen-port": 0,  # the usual one belongs to another Ray here
            "node-ip-address": "127.0.0.1",
            "temp-dir": short,
            "num-cpus": 1,
        }
        process = subprocess.Popen(
            [submit.RAY, "start", "--head", "--block", *(f"--{k}={v}" for k, v in options.items())],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={
                **os.environ,
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": "c" * 64,
                "HOME": str(tmp_path / "home"),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
        )
        yield f"http://127.0.0.1:{dashboard}"
        process.terminate()
        process.wait(60)


@pytest.mark.ray
@pytest.mark.slow
def test_a_real_head_runs_the_code_that_was_sent(
    real_head: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a token: script and helper go along, also to the workers; a failure is status 1."""
    code = tmp_path / "code"
    (code / "studies").mkdir(parents=True)
    (code / "pyproject.toml").touch()
    (code / "mine.py").write_text("SIX = 6\n")
    (code / "studies" / "helper.py").write_text("import mine\nANSWER = 7 * mine.SIX\n")
    script = code / "studies" / "study.py"
    script.write_text(
        textwrap.dedent("""
            import os, sys, ray, helper
            ray.init(logging_level="ERROR")
            @ray.remote
            def ask():
                import helper
                return helper.ANSWER
            print("answer", ray.get(ask.remote()), os.getcwd(), *sys.argv[1:])
            sys.exit(len(sys.argv) > 2)
        """)
    )
    jobs = Jobs(real_head, "c" * 64)
    deadline = time.monotonic() + 120
    while True:
        try:
            assert jobs.all() == []
            break
        except InputError as error:
            assert "does not answer" in str(error) and time.monotonic() < deadline, error
            time.sleep(0.5)
    with pytest.raises(InputError, match="refused the token"):
        Jobs(real_head, "d" * 64).all()
    assert watch(jobs, start(jobs, script, ["it's"], "good")) == 0
    assert f"answer 42 {tmp_path}/home it's\n" in capsys.readouterr().out
    assert watch(jobs, start(jobs, script, ["a", "b"], "bad")) == 1
    assert "bad  FAILED" in capsys.readouterr().out
    assert [job.name for job in jobs.all()] == ["good", "bad"]
    with pytest.raises(InputError, match="the cluster refused: .*good"):
        start(jobs, script, [], "good")
