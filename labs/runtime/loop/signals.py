"""SIGINT, SIGTERM and SIGHUP end a run in an orderly way; a second signal ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""From Ctrl-C; from a scheduler, ``docker stop`` or a node that shuts down; from a closed terminal."""

_received: int | None = None
_stop: Callable[[], None] | None = None
_terminals: tuple[int, ...] = ()
_in_view = False


def received() -> int | None:
    """The signal that has asked this process to end; None if there was none."""
    return _received


def notice() -> str | None:
    """What a person is told when a signal has asked this process to end; None if there was none."""
    if _received is None:
        return None
    return f"{signal.Signals(_received).name}: ending; a second signal ends at once"


def show_notice_in_view(shown: bool) -> None:
    """Whether a live view on the terminal shows ``notice``, which would tear it as a line of its own."""
    global _in_view
    _in_view = shown


def exit_status(status: int) -> int:
    """``status``, or 128 + the signal's number if a signal has asked this process to end."""
    return status if _received is None else 128 + _received


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Inside the block the first signal raises KeyboardInterrupt, a second one ends the process.

    A signal that was ignored before the block stays ignored (``nohup`` ignores SIGHUP). In other
    threads than the main one, where Python does not allow handlers, the block has no effect.
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
        stop: asks the code in the block to end soon, and returns at once.
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
        # Without cleaning up, which may be what takes too long. Ray's processes end with this one.
        os._exit(128 + number)
    _received = number
    if number == getattr(signal, "SIGHUP", None):
        # To write to a closed terminal is an error, and the table must still be written.
        for fd in _terminals:
            os.dup2(os.open(os.devnull, os.O_WRONLY), fd)
    if not (_in_view and os.isatty(2)):
        # os.write, because the signal may have interrupted a print.
        os.write(2, f"{notice()}\n".encode())
    if _stop is None:
        raise KeyboardInterrupt
    _stop()
