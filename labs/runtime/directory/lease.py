"""The lease of a run: only one driver writes it, and one that has died does not block it for ever.

Leases are numbered files in the run's ``lease`` directory, and the newest one counts. It is created
exclusively, rewritten every 20 seconds with a higher count, and marked as released at the end. The
clocks of two machines are never compared: another driver waits and looks whether the file changes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import re
import shlex
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from labs.runtime.directory.storage import StoragePath, reason
from labs.runtime.errors import InputError
from labs.runtime.loop.console import say
from labs.runtime.options import expand_user

RENEW_SECONDS = 20.0
"""Interval at which a lease is rewritten."""

TAKEOVER_SECONDS = 90.0
"""A lease that did not change for this long, which is four missed renewals, is taken over."""

_POLL_SECONDS = 2.0
_FILE = re.compile(r"(\d{6,})\.json")


@dataclass(frozen=True)
class Holder:
    """The process that holds a lease, as its file describes it."""

    token: str
    host: str
    machine: str
    """The boot of the machine and the namespace of its process ids, which differ between containers."""
    pid: int
    started: str
    """When the process started, according to the system, because process ids are reused."""
    count: int = 0
    released: bool = False

    @classmethod
    def this_process(cls) -> Holder:
        """This process, with a new token."""
        pid = os.getpid()
        return cls(uuid.uuid4().hex, socket.gethostname(), _machine(), pid, _start_time(pid) or "")

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine, so that one can see whether it is running."""
        return self.machine == _machine()

    @property
    def is_dead(self) -> bool:
        """Whether it is a process of this machine that has ended."""
        return self.is_here and _start_time(self.pid) != self.started

    def __str__(self) -> str:
        return f"{self.host} (process {self.pid})"


class LeaseLost(InputError):
    """Another driver has taken the run over."""


class Lease:
    """The right to write a run.

    Args:
        directory: the run's directory, which all machines can reach.
        on_lost: called once, in another thread, when another driver has taken the run over.
        clock: returns seconds; tests replace it.
        sleep: waits for some seconds; tests replace it.
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
        """The driver that has taken the run over, or None."""

    def acquire(self, me: Holder | None = None) -> None:
        """Become the only driver that may write the run.

        Raises:
            InputError: another driver is running.
            OSError: the storage cannot be reached.
        """
        me = me or Holder.this_process()
        while True:
            number, holder = self._newest()
            if holder is not None and not (holder.released or holder.is_dead):
                self._watch(number, holder)
            created = self._file(number + 1).create(_content(me))
            if created is None:
                say(f"{self._run} has no lease: make sure that no other driver works on this run")
                return
            if created and self._newest()[0] == number + 1:
                break
            if created:
                # Meanwhile another driver has held a newer lease, and deleted the file of our number
                # as an old one; that is the only reason why we could create it.
                self._file(number + 1).delete()
        self._own, self._number, self._renewed = me, number + 1, self._clock()
        for older in self._numbers():
            if older < self._number:
                self._file(older).delete()

    @property
    def number(self) -> int:
        """The lease's number, which is higher than those of all earlier drivers of the run."""
        return self._number

    def start_renewing(self) -> None:
        """Renew the lease in a thread, until ``release``."""
        if self._own is not None:
            threading.Thread(target=self._renew_regularly, name="lease", daemon=True).start()

    @property
    def holder(self) -> Holder | None:
        """The driver that writes the run, as far as is known without waiting; for readers of the run.

        Raises:
            OSError: the storage cannot be reached.
        """
        holder = self._newest()[1]
        return None if holder is None or holder.released or holder.is_dead else holder

    def require(self) -> None:
        """Call this before writing: a process that was suspended may have lost its lease unnoticed.

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
        """Show that this driver is running, unless another one has taken over."""
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
            except OSError:  # the storage cannot be reached: try again next time
                return
        if self.taken_by is not None:
            self._on_lost()

    def release(self) -> None:
        """Let another driver take the run at once."""
        self._ended.set()
        with self._lock:
            if self._own is None or self.taken_by is not None:
                return
            try:
                if self._newest()[0] == self._number:
                    released = dataclasses.replace(self._own, released=True)
                    self._file(self._number).write(_content(released))
            except OSError:  # another driver waits, or sees that this process has ended
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
            InputError: its holder is still running.
        """
        if holder.is_here:
            raise InputError(_refusal(self._run, holder))
        say(
            f"{self._run} was not released by {holder}: waiting up to {TAKEOVER_SECONDS:.0f} seconds to"
            " see whether that driver is still running"
        )
        begun = self._clock()
        while self._clock() - begun < TAKEOVER_SECONDS:
            self._sleep(_POLL_SECONDS)
            now, current = self._newest()
            if current is None or current.released or now != number:
                return
            if current != holder:
                raise InputError(_refusal(self._run, current))


def _refusal(run: StoragePath, holder: Holder) -> str:
    return f"the run {run} is being written by {holder}: wait until it ends, or stop it first"


def reserve_directory(root: str, experiment: str, name: str | None) -> list[Path]:
    """Create the directory of a new run before anything starts, so that no other driver takes it.

    Args:
        root: as ``RuntimeOptions.run_root`` has it.
        experiment: the directory below it.
        name: the run's; ``None`` takes the date and time, or what is free of that.

    Returns:
        The directories that were created: the run's, then those above it.

    Raises:
        InputError: a run of that name exists, here or on shared storage, or it cannot be created.
    """
    if re.match("(s3|gs|gcs|abfs|abfss|hdfs|file):(?!//)", root, re.IGNORECASE):
        raise InputError(
            f"`run_root` {root} lacks a slash: write s3://bucket/runs, or file:///mnt/runs"
        )
    storage = StoragePath(root)
    made: list[Path] = []
    try:
        parent = expand_user(storage.local or "runs").resolve() / experiment
        str(parent / (name or "")).encode()
        made = [path for path in (parent, *parent.parents) if not path.exists()]
        parent.mkdir(parents=True, exist_ok=True)
        for candidate in _candidates(name):
            try:
                (parent / candidate).mkdir()
            except FileExistsError:
                continue
            made.insert(0, parent / candidate)
            there = storage / experiment / candidate / "config.json"
            if storage.local is not None or not there.exists():
                return made
            remove_empty([made.pop(0)])
        place = shlex.quote(str(storage / experiment / (name or "")))
        why = (
            f"`run_name` {name} already exists in {storage / experiment}: choose another name, or continue"
            f" that run with `resume` {place}"
        )
    except OSError as error:
        why = f"`run_root` {root} cannot be written: {reason(error)}"
    except UnicodeEncodeError:
        why = (
            f"`run_root` {root} cannot be written: the name is not valid UTF-8 (if the locale has no UTF-8,"
            " set LC_ALL=C.UTF-8)"
        )
    remove_empty(made)
    raise InputError(why)


def _candidates(name: str | None) -> list[str]:
    stem = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return [stem, *(f"{stem}-{n}" for n in range(2, 1000))] if name is None else [name]


def remove_empty(directories: Sequence[Path]) -> None:
    """Remove the directories that are empty, innermost first."""
    with contextlib.suppress(OSError):
        for directory in directories:
            directory.rmdir()


def _content(holder: Holder) -> bytes:
    return json.dumps(dataclasses.asdict(holder)).encode()


def _parsed(content: bytes | None) -> Holder | None:
    """The holder; None for a file that is incomplete or missing, which no running driver leaves."""
    try:
        return Holder(**json.loads(content or b""))
    except (ValueError, TypeError):
        return None


def _machine() -> str:
    """The space of this machine's process ids: its boot, and the namespace of a container."""
    parts = [socket.gethostname()]
    try:
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:  # not Linux
        parts.append(str(uuid.getnode()))
    return " ".join(parts)


def _start_time(pid: int) -> str | None:
    """When a process of this machine started, as text; None if there is no such process."""
    if Path("/proc/self/stat").exists():
        try:
            # "pid (name) state ppid ...": the name may contain spaces; the start is field 22
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
            fields = text.rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    listed = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], check=False, capture_output=True, text=True
    )
    return listed.stdout.strip() or None
