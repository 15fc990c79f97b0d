"""Output of trials on other machines: a thread there sends it to an actor on the driver's machine."""

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
"""How long to wait for a receiver that does not answer."""


@ray.remote(num_cpus=0)
class Receiver:
    """Runs on the driver's machine: writes what it receives into spool files for the driver."""

    def __init__(self, spools: str) -> None:
        self._spools = spools
        self._files: dict[str, io.FileIO] = {}

    def take(self, name: str, data: bytes, over: bool) -> None:
        """Add output of a process; ``over`` marks the last call."""
        with contextlib.suppress(OSError):  # the run may have ended, or the disk may be full
            if name not in self._files:
                self._files[name] = create(os.path.join(self._spools, name + SENT))
            self._files[name].write(data)
        if over and name in self._files:
            self._files.pop(name).close()


def start_receiver(spools: str) -> Any:
    """Start a receiver on this machine, which ends with the driver."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Receiver.options(scheduling_strategy=here).remote(spools)  # type: ignore[attr-defined]  # of a decorated class


class Sender:
    """Runs in a trial's process: sends what is new in its spool files, twice a second."""

    def __init__(self, receiver: Any) -> None:
        self._receiver = receiver
        self._followed: dict[str, tuple[Spool, Limiter]] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._send, name="output", daemon=True).start()

    def follow(self, path: str) -> None:
        """Send what is written to a spool file; the file's name may be removed afterwards."""
        spool = Spool(path)
        with self._lock:
            self._followed[os.path.basename(path)] = spool, Limiter()

    def flush(self) -> None:
        """Send everything so far, and wait until it has arrived."""
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
            with contextlib.suppress(ray.exceptions.RayError):  # the driver has ended, or is slow
                ray.get(self._receiver.take.remote(name, data, over), timeout=WAIT_SECONDS)
