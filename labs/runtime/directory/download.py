"""Downloading a file once for any number of processes."""

from __future__ import annotations

import contextlib
import http.client
import urllib.request
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from labs.runtime.directory.storage import write_atomically


def download_once(path: Path, download: Callable[[], bytes]) -> None:
    """Write what ``download`` returns to ``path``, unless the file exists.

    If several processes do this at once, one downloads and the others wait. The file appears when it is
    complete; a download that fails leaves nothing behind.

    Raises:
        OSError: the directory cannot be written. Errors of ``download`` are passed on.
    """
    if path.exists():
        return
    made = [directory for directory in path.parents if not directory.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    try:
        with FileLock(lock):
            if not path.exists():
                write_atomically(path, download())
    except BaseException:
        with contextlib.suppress(OSError):
            lock.unlink(missing_ok=True)
            for directory in made:  # the innermost first; another process may have filled one
                directory.rmdir()
        raise


def read_url(url: str, timeout: float = 30) -> bytes:
    """Download ``url``.

    Raises:
        OSError: there is no network or no such page, or the connection was interrupted.
    """
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "labs"})
        with urllib.request.urlopen(request, timeout=timeout) as response:
            return response.read()
    except (http.client.HTTPException, ValueError) as error:  # not HTTP, cut off, or not a URL
        raise OSError(f"{url}: {error!r}") from error
