"""TensorBoard's event files, written at once and completely. Does not depend on Ray or on trials."""

from __future__ import annotations

import functools
import io
import os
import socket
import threading
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import _AsyncWriterThread
from tensorboard.summary.writer.record_writer import RecordWriter

from labs.runtime.directory.storage import write_atomically

_VERSION = "brain.Event:2"
"""The first record of every event file."""


class EventFile:
    """A new file of events in a directory.

    TensorBoard's own writer hands its events to a thread. An error in that thread may be noticed late or
    never, and leaves half an event in the file. Here :meth:`flush` has either written all events that
    were added, or raises and has written none of them.

    Args:
        directory: created if it does not exist.
        purge_step: events of earlier files of the directory, from this step on, do not count.

    Raises:
        OSError: the file cannot be created.
    """

    def __init__(self, directory: Path, purge_step: int | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads a directory's files in the order of their names: the clock, to the nanosecond
        seconds, rest = divmod(time.time_ns(), 10**9)
        name = f"events.out.tfevents.{seconds:010d}.{rest:09d}.{socket.gethostname()}.{os.getpid()}"
        self._file = open(directory / name, "ab", buffering=0)  # noqa: SIM115  # until close()
        self._pending = io.BytesIO()
        self._records = RecordWriter(self._pending)
        self._add(Event(wall_time=time.time(), file_version=_VERSION))
        if purge_step is not None:
            start = SessionLog(status=SessionLog.START)
            self._add(Event(wall_time=time.time(), step=purge_step, session_log=start))

    def add(self, summary: Summary, step: int = 0) -> None:
        """Add an event, which :meth:`flush` writes."""
        self._add(Event(wall_time=time.time(), step=step, summary=summary))

    def flush(self) -> None:
        """Write what was added.

        Raises:
            OSError: there is no room for it. What the file held before stays readable.
        """
        data = self._pending.getbuffer()
        length = os.fstat(self._file.fileno()).st_size
        written = 0
        try:
            while written < len(data):
                written += self._file.write(data[written:])
        except OSError:
            self._file.truncate(length)
            raise
        finally:
            data.release()
        self._pending.seek(0)
        self._pending.truncate()

    def close(self) -> None:
        """Close the file. What was added and not flushed is lost."""
        self._file.close()

    def _add(self, event: Event) -> None:
        self._records.write(event.SerializeToString())


def write_single_event(path: Path, summary: Summary) -> None:
    """Make a file of one event, or replace it.

    Raises:
        OSError: it cannot be written.
    """
    content = io.BytesIO()
    records = RecordWriter(content)
    for event in (Event(file_version=_VERSION), Event(summary=summary)):
        event.wall_time = time.time()
        records.write(event.SerializeToString())
    write_atomically(path, content.getvalue())


@functools.cache
def silence_writer_threads() -> None:
    """Print no traceback where the thread of a TensorBoard writer cannot write.

    The writer raises the same error again when it is next used, at the latest when it is closed.
    """
    before = threading.excepthook

    def hook(error: threading.ExceptHookArgs) -> None:
        if type(error.thread) is not _AsyncWriterThread or error.exc_type is not OSError:
            before(error)

    threading.excepthook = hook
