"""Connecting to Ray: to a cluster, to a private Ray on this machine, or not at all in local mode."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import ray

from labs.runtime.errors import InputError
from labs.runtime.loop.waiting import report_while_waiting
from labs.runtime.machine import compat
from labs.runtime.machine.cores import usable_cores
from labs.runtime.machine.shipping import runtime_env
from labs.runtime.options import RuntimeOptions

_in_process = False

SOCKET_PATH_LIMIT = 107 if sys.platform.startswith("linux") else 103
"""Bytes in the path of a Unix socket (``sun_path``, without the terminating zero)."""

SOCKET_SUFFIX = len("/ray/session_2026-12-31_23-59-59_999999_4194304/sockets/plasma_store.1")
"""What Ray (2.54.1 to 2.60.0) appends to its temporary directory for its longest socket."""


@contextlib.contextmanager
def connect(options: RuntimeOptions) -> Iterator[None]:
    """Be connected to Ray inside the ``with`` block.

    With ``local_mode`` there is no Ray, and :func:`in_local_mode` is true: code that would start actors
    runs in this process instead. ``address`` or ``RAY_ADDRESS`` joins a running cluster. Otherwise a
    private Ray starts on this machine, listens only on 127.0.0.1, uses the cores that this process may
    use, and ends with the block. If this process is already connected (in a notebook or a test), that
    connection is used and stays open.

    Raises:
        InputError: the cluster cannot be reached, or a private Ray cannot start.
    """
    global _in_process
    if options.local_mode and not in_local_mode():
        _in_process = True
        try:
            yield
        finally:
            _in_process = False
        return
    if ray.is_initialized() or _in_process:
        yield
        return
    if not options.verbose:  # before ray.init, which logs to them
        for name in ("ray", "ray.tune", "ray.data"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    with _connected(options):
        yield


@contextlib.contextmanager
def ray_for_a_library() -> Iterator[None]:
    """For a library that needs Ray (RLlib): start a private one if there is none, as in local mode."""
    if ray.is_initialized():
        yield
        return
    with _connected(RuntimeOptions(num_cpus=1, address="local")):  # whatever RAY_ADDRESS says
        yield


@contextlib.contextmanager
def _connected(options: RuntimeOptions) -> Iterator[None]:
    with compat.own_token() if is_private(options) else contextlib.nullcontext():
        with warnings.catch_warnings(), compat.own_signal_handlers():
            warnings.simplefilter("default" if options.verbose else "ignore")
            if is_private(options):
                _start(options)
            else:
                _join(options)
        try:
            yield
        finally:
            ray.shutdown()


def _start(options: RuntimeOptions) -> None:
    """Start a private Ray.

    Raises:
        InputError: it does not start.
    """
    directory = ray_directory()
    try:
        with report_while_waiting("Ray to start on this machine"):
            ray.init(
                address="local",  # without it Ray (2.54.1) silently joins a running cluster
                # Ray (2.54.1) ignores CPU affinity and the allocation of a batch system.
                num_cpus=options.num_cpus or usable_cores(),
                include_dashboard=False,  # one port less that other users of the machine can reach
                _temp_dir=directory and str(directory),
                log_to_driver=options.verbose,
                configure_logging=options.verbose,
            )
    except Exception as error:
        ray.shutdown()  # some of its processes may have started
        raise InputError(
            f"cannot start Ray on this machine: {_reason(error)} (`verbose` shows its messages, its"
            f" logs are in {(directory or _temporary() / 'ray') / 'session_latest' / 'logs'})"
        ) from None


def ray_directory() -> Path | None:
    """The directory of a private Ray's sockets and logs; None for Ray's default.

    Ray's default is ``RAY_TMPDIR``, else ``TMPDIR``. Batch systems set ``TMPDIR`` to paths that are too
    long for sockets, Ray (2.54.1 to 2.60.0) cannot encode paths that are not ASCII, and a container may
    have mounted the directory read-only. Then ``/tmp`` is used instead.

    Raises:
        InputError: ``RAY_TMPDIR`` is such a path, or ``TMPDIR`` is and ``/tmp`` cannot be written.
    """
    longest = SOCKET_PATH_LIMIT - SOCKET_SUFFIX
    wanted = _temporary()
    path = str(wanted.absolute())
    fits, can_be_written = len(path) <= longest and path.isascii(), _can_be_made(wanted / "ray")
    if fits and can_be_written:
        # Ray (2.54.1) passes a relative path on to processes that run in other directories
        return None if wanted.is_absolute() else wanted.absolute() / "ray"
    fallback = Path("/tmp/ray")
    if "RAY_TMPDIR" in os.environ or not _can_be_made(fallback):
        name = "RAY_TMPDIR" if "RAY_TMPDIR" in os.environ else "TMPDIR"
        if fits:
            raise InputError(
                f"{name}={wanted}: Ray cannot write there: set RAY_TMPDIR to a directory that can be"
                " written, for instance /tmp"
            )
        raise InputError(
            f"{name}={wanted}: Ray's sockets need a path of at most {longest} characters, all of them"
            " ASCII: set RAY_TMPDIR to such a directory, for instance /tmp"
        )
    return fallback


def _can_be_made(directory: Path) -> bool:
    """Whether the directory, which need not exist, could be made and written."""
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _temporary() -> Path:
    """The directory that Ray uses for temporary files (``ray._common.utils``)."""
    default = "/tmp"
    if sys.platform.startswith("linux"):
        default = os.environ.get("TMPDIR", default)
    return Path(os.environ.get("RAY_TMPDIR", default))


def _join(options: RuntimeOptions) -> None:
    """Join a running cluster, and send it the modules beside the script.

    Raises:
        InputError: there is none, it does not answer, or the modules are too large.
    """
    address = options.address or os.environ["RAY_ADDRESS"].strip()
    named = f"`address` {address}" if options.address else f"RAY_ADDRESS={address}"
    if address.startswith(("http://", "https://")):
        raise InputError(
            f"{named} is the address of a dashboard, for `ray job submit`: use HOST:PORT of the cluster"
            " instead (the default port is 6379), or no address"
        )
    if address == "auto":
        address = _find_cluster(named)
    modules = runtime_env()
    try:
        _require_listener(address)
        with report_while_waiting(f"the Ray cluster at {address}"):
            ray.init(
                address=address,
                log_to_driver=options.verbose,
                configure_logging=options.verbose,
                runtime_env=modules or None,
            )
    except ray.exceptions.RuntimeEnvSetupError as error:
        ray.shutdown()
        raise InputError(
            f"the cluster does not accept the script's modules: {_reason(error)}"
        ) from None
    # Ray 2.54.1 raises an AssertionError for an invalid address, and the others without an answer.
    except (OSError, RuntimeError, ValueError, AssertionError, ray.exceptions.RayError) as error:
        raise InputError(f"no Ray cluster answers at {address}: {_reason(error)}") from None


def _find_cluster(named: str) -> str:
    """The cluster that this machine belongs to.

    Raises:
        InputError: there is none. A private Ray does not count: it belongs to another program, and
            ends with it.
    """
    clusters, private = compat.rays_on_this_machine()
    if clusters:
        return clusters[0]
    if private:
        raise InputError(
            f"{named}: this machine does not belong to a cluster, it only has a private Ray"
            f" ({', '.join(private)}), which ends with the program that started it: start a cluster"
            " with ray start --head, or give the address of one"
        )
    raise InputError(
        f"{named}: no Ray runs on this machine: start a cluster with ray start --head, or give the"
        " address of one"
    )


def _reason(error: BaseException) -> str:
    """One line for an error of ``ray.init``, which may be empty and have the real error as its cause."""
    texts = []
    found: BaseException | None = error
    while found is not None:
        texts.append(str(found).strip())
        found = found.__cause__ or found.__context__
    if any("Authentication" in text for text in texts):
        return (
            "authentication failed; it needs RAY_AUTH_MODE=token and the cluster's token in"
            " ~/.ray/auth_token"
        )
    return next((text.splitlines()[0] for text in texts if text), type(error).__name__)


def _require_listener(address: str) -> None:
    """Raise OSError or ValueError if nothing listens there, or another program that answers in text.

    Ray (2.54.1 to 2.60.0) would abort this process from C++, or wait for minutes.
    """
    host, colon, port = address.split("://")[-1].rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError("an address is HOST:PORT, ray://HOST:PORT or auto")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.settimeout(1)
        try:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = connection.recv(1)  # gRPC's first byte is 0, and TLS's is 21
        except OSError:
            return
    if answer and answer.isascii() and answer.decode().isprintable():
        raise ValueError(
            "that is another server, such as Ray's dashboard; a cluster's port is 6379"
        )


def is_private(options: RuntimeOptions) -> bool:
    """Whether the options ask for this machine only, and not for a running cluster."""
    address = options.address or os.environ.get("RAY_ADDRESS", "").strip()
    return options.local_mode or address in ("", "local")


def in_local_mode() -> bool:
    """Whether tasks and actors run in this process (Ray Data cannot run there)."""
    return _in_process or compat.in_ray_local_mode()
