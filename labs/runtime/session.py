"""Connecting to Ray: a cluster, a private Ray on this machine, or this very process."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import warnings
from collections.abc import Iterator

import ray

from labs.runtime import compat
from labs.runtime.errors import InputError
from labs.runtime.options import RuntimeOptions

_in_process = False


@contextlib.contextmanager
def connect(options: RuntimeOptions) -> Iterator[None]:
    """Be connected to Ray inside the ``with`` block.

    Under ``--local-mode`` there is no Ray: the block runs in this process, which :func:`in_local_mode`
    tells whoever would start actors. ``--address`` or ``RAY_ADDRESS`` joins a running cluster; otherwise a private Ray starts on this machine, listens on 127.0.0.1 only and
    ends with the block. Where this process is connected already (a notebook, a test), that
    connection is used and left alone.

    Raises:
        InputError: the cluster cannot be reached.
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
    if not options.verbose:
        for name in ("ray", "ray.tune", "ray.data"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    quiet = {"log_to_driver": options.verbose, "configure_logging": options.verbose}
    with warnings.catch_warnings():
        warnings.simplefilter("default" if options.verbose else "ignore")
        with compat.own_signal_handlers():
            _init(options, quiet)
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def ray_for_a_library() -> Iterator[None]:
    """For a library that cannot do without Ray (RLlib): where local mode has none, a private one."""
    if ray.is_initialized():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with compat.own_signal_handlers():
            _init(RuntimeOptions(num_cpus=1), {"log_to_driver": False, "configure_logging": False})
    try:
        yield
    finally:
        ray.shutdown()


def _init(options: RuntimeOptions, quiet: dict[str, bool]) -> None:
    if is_private(options):
        # Without address="local" Ray silently joins a running cluster.
        ray.init(address="local", num_cpus=options.num_cpus, include_dashboard=False, **quiet)
        return
    address = options.address or os.environ["RAY_ADDRESS"]
    try:
        if address != "auto":
            _require_listener(address)
        ray.init(address=address, **quiet)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise InputError(f"no Ray cluster answers at {address}: {_reason(error)}") from None


def _reason(error: BaseException) -> str:
    """One line for an error of ``ray.init``, which may be empty and hide the true one behind it."""
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
    """Raise OSError or ValueError where nobody listens: Ray would end this process from C++."""
    host, colon, port = address.split("://")[-1].rpartition(":")
    if not colon or not port.isdigit():
        raise ValueError("an address is HOST:PORT, ray://HOST:PORT or auto")
    socket.create_connection((host, int(port)), timeout=10).close()


def is_private(options: RuntimeOptions) -> bool:
    """Whether the options ask for this machine alone rather than for a running cluster."""
    return options.local_mode or not (options.address or os.environ.get("RAY_ADDRESS"))


def in_local_mode() -> bool:
    """Whether tasks and actors run in this process (Ray Data cannot run there)."""
    return _in_process or compat.in_ray_local_mode()
