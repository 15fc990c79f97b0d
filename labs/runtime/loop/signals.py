"""SIGINT, SIGTERM and SIGHUP: all three end a run in order; a second one ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""Ctrl-C; what a scheduler, ``docker stop`` or a node that goes away sends; a closed terminal."""

_received: int | None = None
_stop: Callable[[], None] | None = None
_terminals: tuple[int, ...] = ()


def received() -> int | None:
    """The signal that has asked this process to end; None where there was none."""
    return _received


def exit_status(status: int) -> int:
    """``status``, or 128 and the signal's number where one has asked this process to end."""
    return status if _received is None else 128 + _received


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Inside the block the first signal raises KeyboardInterrupt, a second one ends the process.

    A signal that was ignored before the block stays ignored (``nohup`` ignores SIGHUP). Outside of
    the main thread, where Python allows no handlers, nothing changes.
    """
    global _received, _terminals
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    if _handle in before.values():  # inside another such block
        yield
        return
    _received = None
    _terminals = tuple(fd for fd in (1, 2) if os.isatty(fd))
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextlib.contextmanager
def stopping(stop: Callable[[], None]) -> Iterator[None]:
    """Inside the block the first signal calls ``stop`` instead of raising KeyboardInterrupt.

    Args:
        stop: asks whatever runs in the block to end soon, and returns at once.
    """
    global _stop
    with handled():
        outer, _stop = _stop, stop
        try:
            yield
        finally:
            _stop = outer


def _handle(number: int, frame: FrameType | None) -> None:
    global _received
    if _received is not None:
        # No cleaning up: that is what takes too long. Ray's processes end with this one.
        os._exit(128 + number)
    _received = number
    if number == getattr(signal, "SIGHUP", None):
        # Writing to a terminal that is gone is an error, and there is still a table to write.
        for fd in _terminals:
            os.dup2(os.open(os.devnull, os.O_WRONLY), fd)
    # os.write, since print may be what the signal has interrupted
    os.write(2, f"{signal.Signals(number).name}: ending; a second signal ends at once\n".encode())
    if _stop is None:
        raise KeyboardInterrupt
    _stop()
