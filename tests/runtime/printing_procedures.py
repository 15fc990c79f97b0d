"""Training procedures that print in all ways, importable by Ray's workers."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labs.runtime.reports import Checkpoint, Report


@dataclass(frozen=True)
class PrintConfig:
    seed: int = 0
    how: str = "everything"
    directory: str = ""
    """Files by which the trials signal the test, and each other, how far they are."""


def train(config: PrintConfig, resume: Checkpoint | None = None) -> Iterator[Report]:
    """Print as the config says, between two reports."""
    yield Report(1, {"time/process": float(os.getpid())})
    getattr(sys.modules[__name__], config.how)(config)
    yield Report(2, {"time/process": float(os.getpid())})


def everything(config: PrintConfig) -> None:
    """A line in each way that there is."""
    seed = config.seed
    print(f"print {seed}")
    print(f"error {seed}", file=sys.stderr)
    logging.getLogger("printing_procedures").warning("logging %d", seed)
    warnings.warn(f"warning {seed}", stacklevel=1)
    os.write(1, f"descriptor {seed}\n".encode())
    # Without a flush: C buffers output that does not go to a terminal.
    ctypes.CDLL(None).printf(b"C code %d\n", ctypes.c_int(seed))
    subprocess.run([sys.executable, "-c", f"print('child {seed}')"], check=True)
    thread = threading.Thread(target=print, args=(f"thread {seed}",))
    thread.start()
    thread.join()
    print(f"no end {seed}", end="")


def quiet(config: PrintConfig) -> None:
    """Nothing at all."""


def outlive(config: PrintConfig) -> None:
    """The first trial's thread and child print while the second one runs."""
    directory = Path(config.directory)
    if config.seed:
        (directory / "second").touch()
        _wait_for(directory / "stray")
        print("second trial")
        return
    child = f"import pathlib, time\nwhile not pathlib.Path({str(directory / 'second')!r}).exists():"
    subprocess.Popen([sys.executable, "-c", f"{child}\n time.sleep(0.02)\nprint('stray child')"])

    def stray() -> None:
        _wait_for(directory / "second")
        print("stray thread")
        time.sleep(0.5)  # for the child
        (directory / "stray").touch()

    threading.Thread(target=stray, daemon=True).start()
    print("first trial")


def hold_and_die(config: PrintConfig) -> None:
    """Print, and hold the interpreter's lock for a while; then be killed, the first time."""
    died = Path(config.directory, "died")
    print(f"attempt {2 if died.exists() else 1}")
    if died.exists():
        return
    died.touch()
    ctypes.PyDLL(None).sleep(4)
    print("last words", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def flood(config: PrintConfig) -> None:
    """Far more lines than are kept."""
    for number in range(100_000):
        print(f"line {number}")
    print("the end")


def roll_out(config: PrintConfig) -> None:
    """Let an actor of the trial print."""
    import numpy as np

    from labs.rl.agents.policies import PolicySpec
    from labs.rl.rollouts.collector import CollectorSpec
    from labs.rl.rollouts.workers import Workers

    policy = PolicySpec((1,), 2, (), "tanh", "categorical")
    spec = CollectorSpec("agent_environments:test/Talkative-v0", 1, 1, 5, policy, seed=0)
    workers = Workers(spec, 1)
    workers.gather(np.zeros(4, dtype=np.float32), 0)
    print(f"worker {workers.process_ids()[0]}")
    time.sleep(1.5)  # what is killed may leave out its last two seconds
    workers.close()


def fail(config: PrintConfig) -> None:
    """Print, and fail."""
    for number in range(20):
        print(f"before the end {number}")
    raise RuntimeError("planted")


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"no {path}")
        time.sleep(0.02)
