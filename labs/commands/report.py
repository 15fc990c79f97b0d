"""``labs report``: write the report.html of a run again, or one for several runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from labs.analysis.report.page import REPORT_FILE, write_report
from labs.runtime.directory.mirror import is_remote
from labs.runtime.errors import InputError
from labs.runtime.loop.console import say


@dataclass(frozen=True)
class Report:
    """Write the report of a run again, or one page for several runs."""

    runs: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Directories of runs, or their URIs on shared storage (s3://...)."""

    to: Path | None = None
    """File of the page. The default is report.html; for a single run in the run's directory."""

    def run(self) -> int:
        """Write the page."""
        if not self.runs:
            raise InputError("a report needs a run: name its directory")
        inside = len(self.runs) == 1 and not is_remote(self.runs[0])
        file = self.to or (Path(self.runs[0]) / REPORT_FILE if inside else Path(REPORT_FILE))
        try:
            write_report(self.runs, file)
        except OSError as error:
            raise InputError(f"{file} cannot be written: {error.strerror or error}") from None
        say(f"report: {file}")
        return 0
