"""Experiments as jobs of a cluster: sent, watched and ended over its dashboard's HTTP interface.

The interface is Ray's (``/api/jobs``, ``/api/packages``), the same in all versions that are supported. A
job runs on the head, and goes on when this machine is switched off.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from labs.runtime.errors import InputError

SUCCEEDED = "SUCCEEDED"
OVER = (SUCCEEDED, "FAILED", "STOPPED")
"""Statuses of jobs that have ended."""


NEW_HEAD_SECONDS = 60.0
"""A head that has just started refuses jobs for some seconds (``No available agent``, Ray 2.54.1)."""


@dataclass(frozen=True)
class Job:
    """What the cluster knows of a job."""

    name: str
    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    command: str
    message: str
    """Why it is in this status."""
    began: float | None
    """Seconds since 1970; None where it has not begun."""


class Jobs:
    """The jobs of the cluster whose dashboard answers at an address.

    Args:
        address: ``http://127.0.0.1:8265``, the near end of a tunnel.
        token: the cluster's token; None sends none.

    Every method raises InputError where the cluster does not answer, or refuses.
    """

    def __init__(self, address: str, token: str | None = None) -> None:
        self._address = address.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def submit(
        self, name: str, command: str, package: str, content: bytes, folder: str = "."
    ) -> None:
        """Send code and start a command in it.

        Args:
            name: the job's, which no other of this cluster has had.
            command: for a shell on the head, which starts in the folder of the code.
            package: name of the code, another one for another content.
            content: the code, as a zip file. All machines that run tasks of the job get it.
            folder: of the script, within the code: its neighbours can be imported there too.
        """
        self._ask("PUT", f"/api/packages/gcs/{package}", content)
        job = {
            "entrypoint": command,
            "submission_id": name,
            "runtime_env": {
                "working_dir": f"gcs://{package}",
                # Workers start in the code's folder. Ray 2.60 no longer tells them the script's.
                "env_vars": {"PYTHONPATH": folder},
            },
        }
        deadline = time.monotonic() + NEW_HEAD_SECONDS
        while True:
            try:
                self._ask("POST", "/api/jobs/", json.dumps(job).encode())
                return
            except InputError as error:
                if "No available agent" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def job(self, name: str) -> Job:
        """One job."""
        return _job(json.loads(self._ask("GET", f"/api/jobs/{_quoted(name)}")))

    def all(self) -> list[Job]:
        """All jobs that were sent, the newest last."""
        listed = json.loads(self._ask("GET", "/api/jobs/"))
        jobs = [_job(entry) for entry in listed if entry.get("submission_id")]
        return sorted(jobs, key=lambda job: job.began or float("inf"))

    def stop(self, name: str) -> None:
        """End a job as Ctrl-C does: SIGTERM, and after a few seconds SIGKILL."""
        self._ask("POST", f"/api/jobs/{_quoted(name)}/stop")

    def follow(self, name: str, pause: float = 1.0) -> Iterator[str]:
        """What a job prints, piece by piece, until it has ended.

        Args:
            name: the job's.
            pause: seconds between two questions.
        """
        shown = 0
        while True:
            over = self.job(name).status in OVER
            log = json.loads(self._ask("GET", f"/api/jobs/{_quoted(name)}/logs")).get("logs") or ""
            if len(log) > shown:
                yield log[shown:]
                shown = len(log)
            if over:
                return
            time.sleep(pause)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> str:
        request = urllib.request.Request(
            self._address + path, data=body, method=method, headers=self._headers
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return str(answer.read().decode(errors="replace"))
        except urllib.error.HTTPError as error:
            raise InputError(_refusal(error)) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise InputError(f"the cluster does not answer at {self._address}: {reason}") from None


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _job(entry: dict[str, Any]) -> Job:
    began = entry.get("start_time")
    return Job(
        entry["submission_id"],
        str(entry["status"]),
        entry["entrypoint"],
        " ".join(str(entry.get("message") or "").split()),
        None if began is None else began / 1000,
    )


def _refusal(error: urllib.error.HTTPError) -> str:
    """One sentence for an answer that is an error; Ray's may be a traceback."""
    if error.code in (401, 403):
        return (
            "the cluster refuses the token: it needs the one of ~/.ray/auth_token with which it was"
            " started"
        )
    text = ""
    with contextlib.suppress(OSError):
        text = error.read().decode(errors="replace").strip()
    lines = [] if text.startswith("<") else text.splitlines()  # a page is for browsers
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    said = (errors or [line for line in lines if re.search(r"\w", line)] or [error.reason])[-1]
    return f"the cluster refuses: {said.strip()}"
