"""Who may write a run: a lease that one driver holds, and that a dead one cannot keep.

Leases are numbered files in the run's ``lease`` directory, and the newest one counts. It is created
exclusively, rewritten every 20 seconds with a higher count, and marked as released at the end. No two
machines' clocks are compared: a newcomer looks whether the file changes while it watches.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from labs.runtime.directory.storage import StoragePath
from labs.runtime.errors import InputError
from labs.runtime.loop.console import say

RENEW_SECONDS = 20.0
"""Between two rewritings of a lease."""

PATIENCE_SECONDS = 90.0
"""A lease that did not change for so long is taken over: four renewals were missed."""

_POLL_SECONDS = 2.0
_FILE = re.compile(r"(\d{6,})\.json")


@dataclass(frozen=True)
class Holder:
    """What a lease's file says."""

    token: str
    host: str
    machine: str
    """The boot of the machine and the namespace of its process ids: two containers differ."""
    pid: int
    started: str
    """When the process started, as the system tells it: process ids are used again."""
    count: int = 0
    released: bool = False

    @classmethod
    def this_process(cls) -> Holder:
        """A new holder: this process."""
        pid = os.getpid()
        return cls(uuid.uuid4().hex, socket.gethostname(), _machine(), pid, _start_time(pid) or "")

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine, so that the system can tell whether it is running."""
        return self.machine == _machine()

    @property
    def is_dead(self) -> bool:
        """Whether the system of this machine says that the process is gone."""
        return self.is_here and _start_time(self.pid) != self.started

    def __str__(self) -> str:
        return f"{self.host} (process {self.pid})"


class LeaseLost(InputError):
    """Another driver has taken the run over."""


class Lease:
    """The right to write a run.

    Args:
        directory: the run, where all machines see it.
        on_lost: called once, by another thread, when another driver has taken the run over.
        clock, sleep: for tests.
    """

    def __init__(
        self,
        directory: StoragePath,
        on_lost: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._directory = directory / "lease"
        self._run = directory
        self._on_lost = on_lost
        self._clock, self._sleep = clock, sleep
        self._own: Holder | None = None
        self._number = 0
        self._renewed = 0.0
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self.taken_by: Holder | None = None
        """Who has taken the run over, if anybody has."""

    def acquire(self, me: Holder | None = None) -> None:
        """Become the one who may write.

        Raises:
            InputError: another driver is at work.
            OSError: the storage is out of reach.
        """
        me = me or Holder.this_process()
        while True:
            number, holder = self._newest()
            if holder is not None and not (holder.released or holder.is_dead):
                self._watch(number, holder)
            created = self._file(number + 1).create(_content(me))
            if created is None:
                say(f"{self._run} has no lease: see to it that no other driver works on this run")
                return
            if created and self._newest()[0] == number + 1:
                break
            if (
                created
            ):  # others have come and gone since, and removed the files that were in between
                self._file(number + 1).delete()
        self._own, self._number, self._renewed = me, number + 1, self._clock()
        for older in self._numbers():
            if older < self._number:
                self._file(older).delete()

    @property
    def number(self) -> int:
        """The lease's number: each driver of a run has a higher one than those before."""
        return self._number

    def start_renewing(self) -> None:
        """Renew in a thread of its own, until ``release``."""
        if self._own is not None:
            threading.Thread(target=self._renew_regularly, name="lease", daemon=True).start()

    @property
    def holder(self) -> Holder | None:
        """Who writes the run, as far as can be told without waiting; for whoever only looks.

        Raises:
            OSError: the storage is out of reach.
        """
        holder = self._newest()[1]
        return None if holder is None or holder.released or holder.is_dead else holder

    def require(self) -> None:
        """Call it before writing: a process that slept may have lost its lease without noticing.

        Raises:
            LeaseLost: another driver has taken the run over.
        """
        if self._own is not None and self._clock() - self._renewed > 2 * RENEW_SECONDS:
            self.renew()
        if self.taken_by is not None:
            raise LeaseLost(
                f"{self._run} was taken over by {self.taken_by}: this driver has stopped writing"
            )

    def renew(self) -> None:
        """Say that this driver is running, unless another one has taken over."""
        with self._lock:
            if self._own is None or self.taken_by is not None:
                return
            try:
                number, holder = self._newest()
                if number > self._number:
                    self.taken_by = holder
                else:
                    self._own = dataclasses.replace(self._own, count=self._own.count + 1)
                    self._file(self._number).write(_content(self._own))
                    self._renewed = self._clock()
            except OSError:  # out of reach: it is looked at again next time
                return
        if self.taken_by is not None:
            self._on_lost()

    def release(self) -> None:
        """Let the next one have it at once."""
        self._ended.set()
        with self._lock:
            if self._own is None or self.taken_by is not None:
                return
            try:
                if self._newest()[0] == self._number:
                    released = dataclasses.replace(self._own, released=True)
                    self._file(self._number).write(_content(released))
            except OSError:  # the next one waits, or sees that this process is gone
                pass
            self._own = None

    def _renew_regularly(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            self.renew()

    def _newest(self) -> tuple[int, Holder | None]:
        """Number and holder of the newest lease; a file that cannot be read counts as unknown."""
        number = max(self._numbers(), default=0)
        return number, _parsed(self._file(number).read()) if number else None

    def _numbers(self) -> list[int]:
        found = (_FILE.fullmatch(name) for name in self._directory.files())
        return [int(match[1]) for match in found if match]

    def _file(self, number: int) -> StoragePath:
        return self._directory / f"{number:06d}.json"

    def _watch(self, number: int, holder: Holder) -> None:
        """Return when the lease may be taken over.

        Raises:
            InputError: its holder is running.
        """
        if holder.is_here:
            raise InputError(_refusal(self._run, holder))
        say(
            f"{self._run} was left by {holder}: waiting up to {PATIENCE_SECONDS:.0f} seconds to see"
            " whether that driver is still at work"
        )
        begun = self._clock()
        while self._clock() - begun < PATIENCE_SECONDS:
            self._sleep(_POLL_SECONDS)
            now, current = self._newest()
            if current is None or current.released or now != number:
                return
            if current != holder:
                raise InputError(_refusal(self._run, current))


def _refusal(run: StoragePath, holder: Holder) -> str:
    return f"the run {run} is being written by {holder}: wait for its end, or stop it first"


def _content(holder: Holder) -> bytes:
    return json.dumps(dataclasses.asdict(holder)).encode()


def _parsed(content: bytes | None) -> Holder | None:
    """None for a file that is incomplete or gone: no running driver leaves one like that."""
    try:
        return Holder(**json.loads(content or b""))
    except (ValueError, TypeError):
        return None


def _machine() -> str:
    """What this machine's process ids belong to: its boot, and the namespace of a container."""
    parts = [socket.gethostname()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:  # not Linux
        parts.append(str(uuid.getnode()))
    return " ".join(parts)


def _start_time(pid: int) -> str | None:
    """When a process of this machine started, as text; None where there is no such process."""
    if Path("/proc/self/stat").exists():
        try:
            # "pid (name) state ppid ...": the name may hold spaces; the start is the 22nd field
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    listed = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], check=False, capture_output=True, text=True
    )
    return listed.stdout.strip() or None
