"""Experiments as jobs of a cluster: submit, follow and stop them through the dashboard's HTTP interface.

It is Ray's own interface (``/api/jobs``, ``/api/packages``), which is the same in all supported versions
(2.54.1 to 2.60.0). A job runs on the head, and continues when this machine is switched off.
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

SUCCEEDED, FAILED = "SUCCEEDED", "FAILED"
OVER = (SUCCEEDED, FAILED, "STOPPED")
"""Statuses of jobs that have ended."""

NEW_HEAD_SECONDS = 60.0
"""A new head refuses jobs for some seconds (``No available agent``, Ray 2.54.1)."""


@dataclass(frozen=True)
class Job:
    """A job of the cluster."""

    name: str
    status: str
    """PENDING, RUNNING, SUCCEEDED, FAILED or STOPPED."""
    command: str
    message: str
    """Why it has this status."""
    began: float | None
    """When it started, in seconds since 1970; None if it has not started."""


class Jobs:
    """The jobs of the cluster with its dashboard at an address.

    Args:
        address: for instance ``http://127.0.0.1:8265``, the local end of a tunnel.
        token: the cluster's token; None sends none.

    Every method raises InputError if the cluster does not answer or refuses the request.
    """

    def __init__(self, address: str, token: str | None = None) -> None:
        self._address = address.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def submit(
        self, name: str, command: str, package: str, content: bytes, folder: str = "."
    ) -> None:
        """Send code and start a command in it.

        Args:
            name: name of the job, which no earlier job of this cluster has.
            command: a shell command on the head, which starts in the folder of the code.
            package: name of the code, different for different content.
            content: the code as a zip file. All machines that run tasks of the job get it.
            folder: folder of the script within the code, whose modules can be imported.
        """
        self._ask("PUT", f"/api/packages/gcs/{package}", content)
        job = {
            "entrypoint": command,
            "submission_id": name,
            "runtime_env": {
                "working_dir": f"gcs://{package}",
                # Workers start in the folder of the code. With Ray 2.60 their sys.path no longer has
                # the folder of the script.
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
        """All submitted jobs, the newest last."""
        listed = json.loads(self._ask("GET", "/api/jobs/"))
        jobs = [_job(entry) for entry in listed if entry.get("submission_id")]
        return sorted(jobs, key=lambda job: job.began or float("inf"))

    def stop(self, name: str) -> None:
        """Stop a job: SIGTERM, and after a few seconds SIGKILL."""
        self._ask("POST", f"/api/jobs/{_quoted(name)}/stop")

    def follow(self, name: str, pause: float = 1.0) -> Iterator[str]:
        """Yield the output of a job in pieces until it has ended.

        Args:
            name: name of the job.
            pause: seconds between two requests.
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
    """One sentence for an error response; Ray may send a traceback."""
    if error.code in (401, 403):
        return "the cluster refused the token: it needs the ~/.ray/auth_token with which it was started"
    text = ""
    with contextlib.suppress(OSError):
        text = error.read().decode(errors="replace").strip()
    lines = [] if text.startswith("<") else text.splitlines()  # not an HTML page
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception): ", line)]
    said = (errors or [line for line in lines if re.search(r"\w", line)] or [error.reason])[-1]
    return f"the cluster refused: {said.strip()}"
