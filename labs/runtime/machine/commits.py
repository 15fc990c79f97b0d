"""The commit of the running code, from git or from a stamp file.

Code that is sent to other machines goes without its repository. :func:`write_stamp` writes a file into
the package with the commit and digests of the files. The stamp is ignored if the digests do not match,
because it then belongs to other code.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[2]
STAMP = "commit.json"
SCRIPTS = "experiments"
"""The folder beside the package that is sent together with it."""


def code_versions() -> dict[str, str | None]:
    """The git commits of ``labs`` and of the user's script, with ``-dirty`` if files have changed.

    None for code outside of any repository, or code that its repository does not track (a package in an
    environment inside a checkout), so that it is never the commit of another project.
    """
    script = Path(sys.argv[0]).resolve() if sys.argv and sys.argv[0] else None
    stamp = _read_stamp(PACKAGE)
    labs = git_commit(PACKAGE / "__init__.py")
    if labs is None and stamp and stamp.get("package") == digest(PACKAGE):
        labs = stamp["commit"]
    if script is None or not script.is_file():
        return {"labs": labs, "script": None}
    commit = git_commit(script)
    if commit is None and stamp and digest(script) in stamp.get("scripts", ()):
        commit = stamp["commit"]
    return {"labs": labs, "script": commit}


def code_changes(then: Mapping[str, Any] | None) -> str | None:
    """A sentence if the code is not that of ``then``, or is not committed; otherwise None."""
    now = code_versions()
    for part in ("labs", "script"):
        before, here = (then or {}).get(part), now[part]
        if before != here:
            return (
                f"the code of {part} is at {_short(here)}, and the run started at {_short(before)}"
            )
        if here is not None and here.endswith("-dirty"):
            return f"the code of {part} differs from its commit, as it did when the run started"
    return None


def _short(commit: str | None) -> str:
    return "no commit" if commit is None else commit[:10] + "-dirty" * commit.endswith("-dirty")


def git_commit(file: Path) -> str | None:
    """The commit of the repository that tracks a file, with ``-dirty`` if tracked files have changed."""
    if not _git(file.parent, "ls-files", "--error-unmatch", "--", file.name):
        return None
    return _git(file.parent, "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*")


def git_files(directory: Path) -> list[Path] | None:
    """The files below a directory that git does not ignore; None if there is no repository."""
    listed = _git(directory, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return (listed and [directory / name for name in listed.split("\0") if name]) or None


def _git(directory: Path, *command: str) -> str | None:
    """The output of a git command; None if it fails or there is no git."""
    # In a git hook, variables such as GIT_DIR name a repository and the directory is ignored.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        found = subprocess.run(
            ["git", *command],
            check=False,
            cwd=directory,
            env=environment,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",  # a file's name may be any bytes
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None if found.returncode == 0 else None


def write_stamp(package: Path = PACKAGE) -> str | None:
    """Write the commit of a checkout into its ``labs``, for the machines that it is sent to.

    Args:
        package: the ``labs`` directory of a checkout.

    Returns:
        The commit. None without a repository; then an existing stamp is not changed.
    """
    commit = git_commit(package / "__init__.py")
    if commit is None:
        return None
    tracked = (_git(package.parent, "ls-files", "--", SCRIPTS) or "").splitlines()
    scripts = [package.parent / name for name in tracked]
    stamp = {
        "commit": commit,
        "package": digest(package),
        "scripts": sorted(digest(script) for script in scripts if script.is_file()),
    }
    (package / STAMP).write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")
    return commit


def _read_stamp(package: Path) -> dict[str, Any] | None:
    try:
        stamp = json.loads((package / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) else None


def digest(path: Path) -> str:
    """16 hexadecimal digits of SHA-256 of a file, or of a folder's files and their names.

    The files that Python and :func:`write_stamp` add are left out.
    """
    total = hashlib.sha256()
    files = [path]
    if path.is_dir():
        every = (file for file in path.rglob("*") if file.is_file() and file.name != STAMP)
        files = sorted(file for file in every if "__pycache__" not in file.parts)
        total.update("\n".join(file.relative_to(path).as_posix() for file in files).encode())
    for file in files:
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:16]
