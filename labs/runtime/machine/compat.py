"""Everything that depends on the version of Ray; supported are 2.54.1 to the newest.

The tests run with both ends of that range (``make test`` and ``make test-newest``). Other modules take
from here whatever is private in Ray or missing in some versions.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import secrets
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import ray

HAS_LOCAL_MODE = hasattr(ray, "LOCAL_MODE")
"""Whether ``ray.init(local_mode=True)`` exists. Ray 2.54.1 is the last version that has it."""


def in_ray_local_mode() -> bool:
    """Whether this process runs inside ``ray.init(local_mode=True)``."""
    if not HAS_LOCAL_MODE or not ray.is_initialized():
        return False
    return bool(ray._private.worker.global_worker.mode == ray.LOCAL_MODE)


@contextlib.contextmanager
def own_token() -> Iterator[None]:
    """A secret token for the private Ray that starts inside the block, known only to its processes.

    Newer versions (2.60.0, but not 2.54.1) protect every Ray by a token. Without one they write a token
    to ``~/.ray/auth_token``, readable by everybody, leave ``RAY_AUTH_MODE`` set, and print a message.
    Variables that the user has set are kept.
    """
    setup: Any = ray._private.authentication.authentication_token_setup
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    by_default = hasattr(setup, "enable_token_auth_by_default")
    if not by_default or any(name in os.environ for name in names):
        yield
        return
    os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    loader = setup.AuthenticationTokenLoader.instance()
    loader.reset_cache()
    setup._enable_token_auth()
    try:
        yield
    finally:
        del os.environ["RAY_AUTH_TOKEN"], os.environ["RAY_AUTH_MODE"]
        setup.Config.initialize("")
        loader.reset_cache()


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
    """Yields a function that ends a ``Tuner.fit`` inside the block, after its trials.

    Tune (2.54.1 to 2.60.0) installs a handler of SIGINT for this and never removes it, so that the first
    Ctrl-C after a sweep has no effect. ``TUNE_DISABLE_SIGINT_HANDLER`` (see ``labs.runtime``) turns that
    off, but leaves Tune's handler of SIGUSR1, which does the same and is called here.

    Raises (the function):
        KeyboardInterrupt: ``fit`` has not yet installed its handler.
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
    """Build RLlib's algorithm from an ``AlgorithmConfig``, without files in the user's home."""
    with tempfile.TemporaryDirectory(prefix="labs-rllib-") as scratch:
        if "logger_creator" in inspect.signature(config.build_algo).parameters:  # to Ray 2.54.1
            from ray.tune.logger import NoopLogger

            return config.build_algo(logger_creator=lambda settings: NoopLogger(settings, scratch))
        from ray.tune.trainable import trainable  # later, at the latest from 2.60.0

        with mock.patch.object(trainable, "DEFAULT_STORAGE_PATH", scratch):
            return config.build_algo()


def waiting_trials(tune_controller: Any) -> list[tuple[Any, bool]]:
    """The trials that Tune has not started, in the grid's order, each with whether a process starts for it.

    Args:
        tune_controller: what Tune (2.54.1 to 2.60.0) passes to a scheduler.
    """
    tune = tune_controller._tune_controller
    found = []
    for trial in sorted(tune._pending_trials, key=lambda trial: trial.config["index"]):
        actor = tune._trial_to_actor.get(trial)
        found.append((trial, actor is not None and tune._actor_manager.is_actor_started(actor)))
    return found


def rays_on_this_machine() -> tuple[list[str], list[str]]:
    """Addresses of the clusters that this machine belongs to, and of the private Rays on it.

    ``ray start`` writes the cluster's address to a file in its temporary directory, and ``ray.init``
    does not. For ``address="auto"`` Ray itself (2.54.1 to 2.60.0) also joins private ones.
    """
    import psutil  # a copy that Ray contains and makes importable

    found: dict[str, str | None] = {}
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] != "raylet":
            continue
        parts = [part.partition("=") for part in process.info["cmdline"] or []]
        flags = {name: value for name, _, value in parts}
        if "--gcs-address" in flags:
            found[flags["--gcs-address"]] = flags.get("--temp_dir")
    default = str(Path(ray._common.utils.get_ray_address_file(None)).parent)
    started = {_started_cluster(path) for path in {default, *found.values()} if path}
    # First the one that Ray's own commands use, even if its processes are not visible from here.
    first = _started_cluster(default)
    clusters = [first] if first else []
    clusters += [address for address in found if address in started and address != first]
    return clusters, [address for address in found if address not in started]


def _started_cluster(directory: str) -> str | None:
    try:
        return (Path(directory) / "ray_current_cluster").read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def free_nodes() -> list[dict[str, float]]:
    """The free resources of each machine of the cluster at this moment."""
    free = ray._private.state.available_resources_per_node()
    return [
        {kind: node.get(kind, 0.0) for kind in ("CPU", "GPU", "memory")} for node in free.values()
    ]


def has_pending_groups() -> bool:
    """Whether placement groups, such as those of trials, are waiting for resources."""
    groups = ray.util.placement_group_table().values()
    return any(group["state"] in ("PENDING", "RESCHEDULING") for group in groups)


def autoscaler_error() -> str:
    """The last line of the autoscaler's last error; empty if there is none."""
    key = ray._private.ray_constants.DEBUG_AUTOSCALING_ERROR
    error = ray.experimental.internal_kv._internal_kv_get(key)
    lines = (error or b"").decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


def failed_launches(seconds: float = 900.0) -> dict[str, str]:
    """Why machines could not be started in the last ``seconds``: the newest reason of each kind.

    From version 2 of the autoscaler; empty with another version or without one.
    """
    if not ray.is_initialized():
        return {}
    try:
        from ray.autoscaler.v2.sdk import get_cluster_status

        launches = get_cluster_status(ray.get_runtime_context().gcs_address).failed_launches
    except Exception:  # no autoscaler has reported yet, or the GCS is busy
        return {}
    since = time.time() - seconds
    recent = [launch for launch in launches if (launch.failed_ts_s or 0) >= since]
    recent.sort(key=lambda launch: launch.failed_ts_s or 0)
    return {launch.ray_node_type_name: launch.details or "" for launch in recent}
