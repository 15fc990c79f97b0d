"""Write the commit of this checkout to ``labs/commit.json``, for machines that get the code without git.

python -m labs.cluster.commit && ray up cluster.yaml
"""

from __future__ import annotations

from dataclasses import dataclass

from labs.runtime.cli import launch
from labs.runtime.errors import InputError
from labs.runtime.loop.console import say
from labs.runtime.machine import commits


def record_commit() -> str:
    """Write the file; returns the commit, with ``-dirty`` if files have changed.

    Raises:
        InputError: this ``labs`` is not in a git repository, or git is not installed.
    """
    commit = commits.write_stamp()
    if commit is None:
        raise InputError(
            f"{commits.PACKAGE} is not tracked by git, or git is not installed: config.json on the nodes"
            " will have no commit"
        )
    return commit


@dataclass(frozen=True)
class Command:
    """Write the commit of this code to labs/commit.json, before it is sent to other machines."""


def run(_: Command) -> int:
    """Write the file and print the commit."""
    say(f"labs/{commits.STAMP}: {record_commit()}")
    return 0


if __name__ == "__main__":
    launch(run, Command)
