"""All that differs between the Ray versions that are supported: 2.54.1 to the newest.

The tests run with both ends of that range (``make test`` and ``make test-newest``). Code elsewhere
that needs a private name of Ray, or one that some versions lack, takes it from here.
"""

from __future__ import annotations

import contextlib
import inspect
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import ray

HAS_LOCAL_MODE = "local_mode" in inspect.signature(ray.init).parameters
"""Whether ``ray.init(local_mode=True)`` exists. Ray 2.54.1 is the last version that has it."""


def in_ray_local_mode() -> bool:
    """Whether this process runs inside ``ray.init(local_mode=True)``."""
    if not HAS_LOCAL_MODE or not ray.is_initialized():
        return False
    return bool(ray._private.worker.global_worker.mode == ray.LOCAL_MODE)


@contextlib.contextmanager
def own_signal_handlers() -> Iterator[None]:
    """Keep ``ray.init`` inside the block from replacing this process's handler of SIGTERM.

    Ray (2.54.1 to 2.60.0) sets two: one in Python that raises SystemExit, and one in C++ that prints a
    stack trace and aborts three seconds later, with status 134.
    """
    before = signal.getsignal(signal.SIGTERM)
    with mock.patch.object(ray._private.utils, "set_sigterm_handler", lambda handler: None):
        yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)  # over the one in C++


@contextlib.contextmanager
def stoppable_tune() -> Iterator[Callable[[], None]]:
    """Gives a function that ends a ``Tuner.fit`` which runs inside the block, trials first.

    Tune's own way (2.54.1 to 2.60.0) is a handler of SIGINT that it never takes back, so that the first
    Ctrl-C after a sweep is lost. ``TUNE_DISABLE_SIGINT_HANDLER`` (see ``labs.runtime``) leaves its
    handler of SIGUSR1, which does the same and is called here.

    Raises (the function):
        KeyboardInterrupt: ``fit`` has not come so far that it could be asked.
    """
    before = signal.getsignal(signal.SIGUSR1)

    def stop() -> None:
        handler = signal.getsignal(signal.SIGUSR1)
        if handler is before or not callable(handler):
            raise KeyboardInterrupt
        handler(signal.SIGUSR1, None)

    try:
        yield stop
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGUSR1, before)


def build_algorithm(config: Any) -> Any:
    """RLlib's algorithm of an ``AlgorithmConfig``, with nothing written to the user's home."""
    with tempfile.TemporaryDirectory(prefix="labs-rllib-") as scratch:
        if "logger_creator" in inspect.signature(config.build_algo).parameters:  # to Ray 2.54.1
            from ray.tune.logger import NoopLogger

            return config.build_algo(logger_creator=lambda settings: NoopLogger(settings, scratch))
        from ray.tune.trainable import trainable  # later, at the latest from 2.60.0

        with mock.patch.object(trainable, "DEFAULT_STORAGE_PATH", scratch):
            return config.build_algo()
