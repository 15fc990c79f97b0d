"""Starting off the paved road: foreign environment variables, long paths, Rays of other programs."""

from __future__ import annotations

import os
import random
import string
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import ray

from labs.runtime.errors import InputError
from labs.runtime.machine import compat, session
from labs.runtime.machine.session import connect, ray_directory
from labs.runtime.options import RuntimeOptions

LONGEST = session.SOCKET_PATH_LIMIT - session.SOCKET_SUFFIX


def run_python(code: str, **environment: str | None) -> subprocess.CompletedProcess[str]:
    """A value None removes a variable."""
    variables = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        check=False, capture_output=True, text=True, timeout=300,
        env={k: v for k, v in variables.items() if v is not None},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        ("module://matplotlib_inline.backend_inline", "agg"),
        ("no such thing", "agg"),
        ("svg", "svg"),  # what Matplotlib knows stays
        ("", ""),
    ],
)
def test_a_notebook_s_backend(backend: str, expected: str) -> None:
    done = run_python(
        "import os, labs, matplotlib.figure; print(os.environ['MPLBACKEND'])", MPLBACKEND=backend
    )
    assert (done.stdout, done.stderr) == (expected + "\n", "")


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b'lines.linewidth: "', "Missing closing quote"), (b"\xff\xfe\0", "codec can't decode")],
)
@pytest.mark.parametrize("place", ["MATPLOTLIBRC", "MPLCONFIGDIR", "HOME", "."])
def test_settings_of_matplotlib_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, reason: str, place: str
) -> None:
    for name in ("MATPLOTLIBRC", "MPLCONFIGDIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    folder = tmp_path / ".config" / "matplotlib" if place == "HOME" else tmp_path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "matplotlibrc").write_bytes(content)
    environment = {} if place == "." else {place: str(tmp_path)}
    monkeypatch.chdir(tmp_path if place == "." else "/")
    done = run_python("import labs", MPLBACKEND="module://none", **environment)
    assert done.returncode == 2, done.stderr
    said = f"error: {folder / 'matplotlibrc'} (Matplotlib's settings) cannot be read: "
    last = done.stderr.splitlines()[-1]  # Matplotlib may have warned before
    assert last.startswith(said) and reason in last
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("option", [["--run-root", "~nobody-here/x"], ["--resume", "~nobody-here"]])
def test_the_home_of_an_unknown_user(tmp_path: Path, option: list[str]) -> None:
    (tmp_path / "tiny.py").write_text(TINY)
    done = subprocess.run(
        [sys.executable, "tiny.py", "--local-mode", *option], cwd=tmp_path, check=False,
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    said = f"error: {option[1]}: there is no user nobody-here\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_what_another_program_has_set_for_ray_does_not_change_results() -> None:
    """Buffered results would be acknowledged before the driver has them (lost when it dies)."""
    left = {"TUNE_RESULT_BUFFER_LENGTH": "50", "RAY_CHDIR_TO_TRIAL_DIR": "1"}
    left |= {"TUNE_DISABLE_SIGINT_HANDLER": "0", "TOKENIZERS_PARALLELISM": "true"}
    done = run_python(
        f"import os, labs.runtime; print(*[os.environ[name] for name in {list(left)}])", **left
    )
    assert (done.stdout, done.stderr) == ("1 0 1 true\n", "")


def test_python_without_docstrings_is_one_sentence() -> None:
    """Ray cannot be imported then; without asserts (level 1) it can."""
    done = run_python("import labs.runtime.sweep", PYTHONOPTIMIZE="2")
    sentence = "error: without docstrings (PYTHONOPTIMIZE=2, python -OO) Ray cannot be imported:"
    assert (done.returncode, done.stderr) == (2, f"{sentence} use level 1\n")
    done = run_python("import labs.runtime.sweep", PYTHONOPTIMIZE="1")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("home", ["/proc", "/proc/none", "/dev/null"])
def test_a_home_that_cannot_be_written(tmp_path: Path, home: str) -> None:
    """Nothing of ours needs to write there; it runs, and resumes."""
    script = tmp_path / "tiny.py"
    script.write_text(TINY)
    for more in ([], ["--resume", str(tmp_path / "runs/tiny/r"), "--seeds", "2"]):
        command = [sys.executable, str(script), "--local-mode", *(more or ["--run-name", "r"])]
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "HOME": home}, check=False,
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(tmp_path / "runs/tiny/r/results.csv")) == 2


TINY = """
from dataclasses import dataclass
import labs

@dataclass(frozen=True)
class Trial:
    seed: int = 0

def train(config, resume=None):
    yield labs.Report(1, {"val/score": float(config.seed)})

if __name__ == "__main__":
    labs.main(train, Trial, metric="val/score")
"""


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_a_locale_without_utf_8(tmp_path: Path, locale: str) -> None:
    """Python takes names in UTF-8 there, unless it is told otherwise: then they are refused in a sentence."""
    script = tmp_path / "tiny.py"
    script.write_text(TINY)
    own = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHON"))}
    for python, status in (("1", 0), ("0", 2)):
        done = subprocess.run(
            [sys.executable, str(script), "--local-mode", "--run-name", f"größe{python}"],
            cwd=tmp_path, check=False, capture_output=True, timeout=300,
            env={**own, "LC_ALL": locale, "PYTHONUTF8": python, "PYTHONCOERCECLOCALE": python},
        )  # fmt: skip
        assert done.returncode == status, done.stderr
    said = done.stderr.decode(errors="replace")
    assert said.startswith("error: --run-root runs cannot be written: the name is not valid UTF-8")
    assert said.count("\n") == 1 and "set LC_ALL=C.UTF-8" in said
    assert [p.name for p in (tmp_path / "runs" / "tiny").iterdir()] == ["größe1"]


NOBODY = """
import os, pwd
def missing(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")
pwd.getpwuid = missing
"""


def test_without_home_and_user(tmp_path: Path) -> None:
    """As in a container that runs under a number: every import works, in a directory of its own."""
    nobody = dict.fromkeys(("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"))
    code = NOBODY + "import labs.runtime.sweep, getpass, pathlib; print(pathlib.Path.home())\n"
    done = run_python(code + "print(getpass.getuser())", TMPDIR=str(tmp_path), **nobody)
    assert done.returncode == 0, done.stderr
    home, user = done.stdout.split()
    assert Path(home).parent == tmp_path
    assert Path(home).stat().st_mode & 0o777 == 0o700
    assert user == str(os.getuid())
    with_home = run_python(
        NOBODY + "import labs; print(os.environ['HOME'])", **{**nobody, "HOME": "/some/where"}
    )
    assert with_home.stdout == "/some/where\n"


def path_of(length: int) -> str:
    return "/tmp/" + "".join(random.choices(string.ascii_letters, k=length - 5))


@pytest.mark.parametrize(
    ("tmpdir", "expected"),
    [
        (path_of(LONGEST), None),
        (path_of(LONGEST + 1), "/tmp/ray"),
        (path_of(90), "/tmp/ray"),
        ("/scratch/größe", "/tmp/ray"),
        ("/tmp/with space", None),
        ("/dev/null", "/tmp/ray"),
        ("/dev/null/job", "/tmp/ray"),
        ("job", str(Path("job/ray").absolute())),
    ],
)
def test_ray_s_directory_is_short(
    monkeypatch: pytest.MonkeyPatch, tmpdir: str, expected: str | None, tmp_path: Path
) -> None:
    if expected is not None and len(expected) > LONGEST:
        pytest.skip("the working directory is too long for this test")
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv("TMPDIR", tmpdir)
    assert ray_directory() == (expected and Path(expected))
    monkeypatch.setenv("RAY_TMPDIR", "/tmp/short")  # which goes before
    assert ray_directory() is None
    monkeypatch.delenv("TMPDIR")
    monkeypatch.setenv("RAY_TMPDIR", path_of(LONGEST + 1))
    with pytest.raises(InputError, match=rf"RAY_TMPDIR=.* at most {LONGEST} characters"):
        ray_directory()


def test_what_ray_cannot_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A read-only mount, a directory of another user: ``/tmp`` serves; what is meant for Ray is refused."""
    closed = {tmp_path / "job", tmp_path / "own" / "ray"}
    for directory in closed:
        directory.mkdir(parents=True)
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: Path(path) not in closed and access(path, mode)
    )
    monkeypatch.setattr(session, "SOCKET_PATH_LIMIT", 1000)
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    for name in ("job", "job/7", "own"):
        monkeypatch.setenv("TMPDIR", str(tmp_path / name))
        assert ray_directory() == Path("/tmp/ray")
        monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / name))
        with pytest.raises(
            InputError, match=rf"^RAY_TMPDIR={tmp_path / name}: Ray cannot write there"
        ):
            ray_directory()
        monkeypatch.delenv("RAY_TMPDIR")
    closed |= {Path("/tmp"), Path("/tmp/ray")}
    with pytest.raises(InputError, match=r"^TMPDIR=.*: Ray cannot write there: set RAY_TMPDIR"):
        ray_directory()


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_the_longest_socket_path_is_as_long_as_assumed() -> None:
    """Should a new Ray append more to its directory, this says so before a user's job does."""
    sockets = Path(ray.nodes()[0]["RayletSocketName"]).parent
    base = sockets.parents[2]
    longest = max(len(str(path)) for path in sockets.iterdir())
    digits = len(sockets.parent.name.rpartition("_")[2])  # of the process id, at most 7
    assert longest - len(str(base)) + 7 - digits <= session.SOCKET_SUFFIX


@pytest.mark.ray
def test_a_private_ray_that_cannot_start_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "ray").symlink_to("nowhere")
    done = run_python(
        """
        from labs.runtime.errors import InputError
        from labs.runtime.options import RuntimeOptions
        from labs.runtime.machine import session
        from labs.runtime.machine.session import connect
        session.SOCKET_PATH_LIMIT = 1000
        try:
            with connect(RuntimeOptions(num_cpus=1)):
                print("started")
        except InputError as error:
            print(error)
        """,
        RAY_TMPDIR=str(tmp_path),
    )
    assert done.stdout.startswith("cannot start Ray on this machine: ")
    assert f"File exists: '{tmp_path / 'ray'}'" in done.stdout
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "https://ray.example.org"])
def test_a_dashboard_s_address(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", address)
    expected = rf"RAY_ADDRESS={address} is the address of a dashboard"
    with pytest.raises(InputError, match=expected), connect(RuntimeOptions()):
        pass
    with (
        pytest.raises(InputError, match=rf"`address` {address} is the address of a dashboard"),
        connect(RuntimeOptions(address=address)),
    ):
        pass


@pytest.mark.parametrize("address", ["", " ", "local"])
def test_an_empty_address_is_a_private_ray(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert session.is_private(RuntimeOptions())
    assert not session.is_private(RuntimeOptions(address="10.0.0.1:6379"))


def raylet(address: str, directory: object) -> SimpleNamespace:
    command = ["raylet", f"--gcs-address={address}", f"--temp_dir={directory}", "--head"]
    return SimpleNamespace(info={"name": "raylet", "cmdline": command})


def test_auto_finds_clusters_and_no_private_rays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import psutil

    default, other = tmp_path / "default" / "ray", tmp_path / "other"
    default.mkdir(parents=True)
    other.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(default.parent))
    shell = SimpleNamespace(info={"name": "bash", "cmdline": ["bash", "--gcs-address=9.9.9.9:1"]})
    running = [shell, raylet("127.0.0.1:4001", default), raylet("10.0.0.7:6379", other)]
    running.append(raylet("127.0.0.1:4002", other))
    monkeypatch.setattr(psutil, "process_iter", lambda fields: running)
    everyone = ["127.0.0.1:4001", "10.0.0.7:6379", "127.0.0.1:4002"]
    assert compat.rays_on_this_machine() == ([], everyone)
    with pytest.raises(
        InputError, match=r"`address` auto: .*does not belong to a cluster.*127\.0\.0\.1:4001"
    ):
        session._find_cluster("`address` auto")
    (other / "ray_current_cluster").write_text("10.0.0.7:6379")
    private = ["127.0.0.1:4001", "127.0.0.1:4002"]
    assert compat.rays_on_this_machine() == (["10.0.0.7:6379"], private)
    assert session._find_cluster("auto") == "10.0.0.7:6379"
    (default / "ray_current_cluster").write_text("10.0.0.8:6379\n")  # of another process space
    assert session._find_cluster("auto") == "10.0.0.8:6379"
    running.clear()
    (default / "ray_current_cluster").unlink()
    with pytest.raises(InputError, match="no Ray runs on this machine"):
        session._find_cluster("auto")


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_the_tests_own_ray_is_local_as_private() -> None:
    address = ray.get_runtime_context().gcs_address
    clusters, private = compat.rays_on_this_machine()
    assert address in private
    assert address not in clusters
