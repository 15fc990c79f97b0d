"""The last lines of a failed trial's log and of its traceback."""

from __future__ import annotations

from pathlib import Path

from labs.runtime.output import log_file

LAST_LINES = 8
"""Number of lines of the log, and of the traceback."""


def last_lines(run: Path, trial: str, count: int = LAST_LINES) -> list[str]:
    """The last lines of a trial's log, then those of its traceback; none if it has neither.

    Args:
        run: the run's directory.
        trial: the trial's name.
        count: the largest number of lines of each.
    """
    printed = log_file.last_lines(run, trial, count)
    try:
        text = (run / "tensorboard" / trial / "error.txt").read_text(
            errors="replace", encoding="utf-8"
        )
    except OSError:
        return printed
    traceback = [line.rstrip() for line in text.splitlines() if line.strip()][-count:]
    logged = bool(traceback) and traceback[-1] in printed  # the trial printed it itself
    return printed if logged else [*printed, *traceback]
