"""Leave the commit of this checkout's code in ``labs/commit.json``, for machines that get it without git.

python -m labs.cluster.commit && ray up cluster.yaml
"""

from __future__ import annotations

from dataclasses import dataclass

from labs.runtime.cli import launch
from labs.runtime.errors import InputError
from labs.runtime.loop.console import say
from labs.runtime.machine import commits


def leave_commit() -> str:
    """Write the file; the commit, ``-dirty`` where files differ from it.

    Raises:
        InputError: this ``labs`` is in no git repository, or git is not installed.
    """
    commit = commits.write_stamp()
    if commit is None:
        raise InputError(
            f"{commits.PACKAGE} is not tracked by a git repository (or there is no git): config.json on"
            " the nodes will have no commit"
        )
    return commit


@dataclass(frozen=True)
class Command:
    """Leave the commit of this code in labs/commit.json, before it is sent to other machines."""


def run(_: Command) -> int:
    """Write the file, and say what is in it."""
    say(f"labs/{commits.STAMP}: {leave_commit()}")
    return 0


if __name__ == "__main__":
    launch(run, Command)
