"""The commit of the code that runs: git's, or the one that was sent along; never another one's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from labs.runtime.machine import commits
from labs.runtime.machine.commits import code_versions, git_commit, write_stamp


def git(directory: Path, *command: str) -> str:
    name = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    done = subprocess.run(
        ["git", *name, *command], cwd=directory, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with a package, a script and another file."""
    root = tmp_path / "checkout"
    (root / "labs" / "runtime").mkdir(parents=True)
    (root / "labs" / "__init__.py").write_text("a = 1\n")
    (root / "labs" / "runtime" / "b.py").write_text("b = 1\n")
    (root / "experiments").mkdir()
    (root / "experiments" / "sweep.py").write_text("print(1)\n")
    (root / "README.md").write_text("read\n")
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "all")
    (root / ".gitignore").write_text("ignored\n")
    return root


def versions(
    package: Path, script: Path | None, monkeypatch: pytest.MonkeyPatch
) -> tuple[str | None, str | None]:
    monkeypatch.setattr(commits, "PACKAGE", package)
    monkeypatch.setattr(sys, "argv", [str(script or "")])
    found = code_versions()
    return found["labs"], found["script"]


def test_gits_commit_and_whether_files_differ(checkout: Path) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    assert git_commit(checkout / "labs" / "__init__.py") == head
    (checkout / "labs" / "new.py").touch()  # not tracked: no difference to git
    assert git_commit(checkout / "labs" / "__init__.py") == head
    (checkout / "README.md").write_text("changed\n")
    assert git_commit(checkout / "labs" / "__init__.py") == head + "-dirty"


def test_never_another_repositorys_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A package or script that merely lies below a repository, or git's variables that name one."""
    lying = checkout / "venv" / "labs" / "__init__.py"
    lying.parent.mkdir(parents=True)
    lying.touch()
    assert git_commit(lying) is None
    outside = tmp_path / "other.py"
    outside.touch()
    assert git_commit(outside) is None
    monkeypatch.setenv("GIT_DIR", str(checkout / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path))
    same_name = tmp_path / "labs" / "__init__.py"  # as if it were the file of that repository
    same_name.parent.mkdir()
    same_name.touch()
    assert git_commit(same_name) is None
    monkeypatch.setenv("PATH", "")
    assert git_commit(checkout / "labs" / "__init__.py") is None


def test_the_commit_travels_with_the_code(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    assert write_stamp(checkout / "labs") == head
    node = tmp_path / "node"
    home = tmp_path / "home"  # `ray submit` copies the script there
    home.mkdir()
    shutil.copytree(checkout / "labs", node / "labs")
    (node / "labs" / "__pycache__").mkdir()
    (node / "labs" / "__pycache__" / "x.pyc").touch()
    script = shutil.copy(checkout / "experiments" / "sweep.py", home / "sweep.py")
    mine = home / "mine.py"
    mine.write_text("print(2)\n")
    assert versions(node / "labs", Path(script), monkeypatch) == (head, head)
    assert versions(node / "labs", mine, monkeypatch) == (head, None)
    assert versions(node / "labs", None, monkeypatch) == (head, None)
    # What git says of a checkout goes before a file that it does not know
    (checkout / "README.md").write_text("changed\n")
    sweep = checkout / "experiments" / "sweep.py"
    assert versions(checkout / "labs", sweep, monkeypatch) == (f"{head}-dirty",) * 2
    assert write_stamp(checkout / "labs") == f"{head}-dirty"


@pytest.mark.parametrize("change", ["content", "name", "more", "stamp"])
def test_a_stamp_of_other_code_is_ignored(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str
) -> None:
    write_stamp(checkout / "labs")
    package = shutil.copytree(checkout / "labs", tmp_path / "node" / "labs")
    assert versions(package, None, monkeypatch)[0] is not None
    if change == "content":
        (package / "runtime" / "b.py").write_text("b = 2\n")
    elif change == "name":
        (package / "runtime" / "b.py").rename(package / "runtime" / "c.py")
    elif change == "more":
        (package / "runtime" / "c.py").touch()
    else:
        (package / "commit.json").write_text("[]")
    assert versions(package, None, monkeypatch) == (None, None)


def test_without_a_repository_the_existing_stamp_is_kept(checkout: Path) -> None:
    (checkout / ".git").rename(checkout / "git")
    assert write_stamp(checkout / "labs") is None
    assert not (checkout / "labs" / "commit.json").exists()
    (checkout / "git").rename(checkout / ".git")
    write_stamp(checkout / "labs")
    before = (checkout / "labs" / "commit.json").read_text()
    shutil.rmtree(checkout / ".git")
    assert write_stamp(checkout / "labs") is None
    assert (checkout / "labs" / "commit.json").read_text() == before
