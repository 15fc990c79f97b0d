"""What a failed trial printed last."""

from __future__ import annotations

from pathlib import Path

LAST_LINES = 10
_BYTES = 20_000


def last_lines(run: Path, trial: str, count: int = LAST_LINES) -> list[str]:
    """The last lines of a trial's log, or else of its traceback; none where it left neither.

    Args:
        run: the run's directory.
        trial: the trial's name.
        count: how many lines at most.
    """
    for path in (run / "logs" / f"{trial}.txt", run / "tensorboard" / trial / "error.txt"):
        try:
            with open(path, "rb") as file:
                file.seek(max(0, path.stat().st_size - _BYTES))
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            continue
        found = [line.rstrip() for line in lines if line.strip()]
        if found:
            return found[-count:]
    return []
