"""Output of trials on other machines than the driver's: a thread there sends it to an actor here."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from labs.runtime.output.log_file import Limiter
from labs.runtime.output.spool import SENT, Spool, create

SEND_SECONDS = 0.5
WAIT_SECONDS = 10.0
"""A driver that does not take anything for so long is not waited for."""


@ray.remote(num_cpus=0)
class Receiver:
    """On the driver's machine: writes what it is sent into the spool files that the driver reads."""

    def __init__(self, spools: str) -> None:
        self._spools = spools
        self._files: dict[str, io.FileIO] = {}

    def take(self, name: str, data: bytes, over: bool) -> None:
        """More of a process's output; ``over``: there will be no more."""
        with contextlib.suppress(OSError):  # the run may have ended, or the disk be full
            if name not in self._files:
                self._files[name] = create(os.path.join(self._spools, name + SENT))
            self._files[name].write(data)
        if over and name in self._files:
            self._files.pop(name).close()


def start_receiver(spools: str) -> Any:
    """A receiver on this machine, which ends with the driver."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Receiver.options(scheduling_strategy=here).remote(spools)  # type: ignore[attr-defined]  # of a decorated class


class Sender:
    """In a trial's process: sends what appears in its spool files, twice a second."""

    def __init__(self, receiver: Any) -> None:
        self._receiver = receiver
        self._followed: dict[str, tuple[Spool, Limiter]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._send, name="output", daemon=True).start()

    def follow(self, path: str) -> None:
        """Send what appears in a new spool file, which may lose its name afterwards."""
        spool = Spool(path)
        with self._lock:
            self._followed[os.path.basename(path)] = spool, Limiter()

    def flush(self) -> None:
        """Send all that there is, and wait until it has arrived."""
        self._look(everything=True)

    def _send(self) -> None:
        while True:
            time.sleep(SEND_SECONDS)
            self._look()

    def _look(self, everything: bool = False) -> None:
        with self._lock:
            for name, (spool, limiter) in list(self._followed.items()):
                over = spool.is_over()
                while data := spool.read(time.monotonic(), everything or over):
                    self._give(name, limiter.keep(data))
                ends = over or everything
                self._give(name, limiter.finish() if ends else limiter.keep(b""), over)
                if over:
                    self._followed.pop(name)[0].close()

    def _give(self, name: str, data: bytes, over: bool = False) -> None:
        if data or over:
            with contextlib.suppress(ray.exceptions.RayError):  # the driver has gone, or is slow
                ray.get(self._receiver.take.remote(name, data, over), timeout=WAIT_SECONDS)
