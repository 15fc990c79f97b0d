"""Fixtures that every part's tests share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

# Workers import the tests' own procedures by name, and test processes must not fight for cores.
_HERE = Path(__file__).parent
_IMPORTABLE = [str(_HERE / part) for part in ("runtime", "rl")]
os.environ["PYTHONPATH"] = os.pathsep.join(
    _IMPORTABLE + list(filter(None, [os.environ.get("PYTHONPATH")]))
)
sys.path[:0] = [
    str(_HERE / part) for part in ("runtime", "experiments", "language", "cluster", "rl")
]
# A shell's background jobs ignore SIGINT, and nohup's SIGHUP; so would the scripts that tests end.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.environ.pop("RAY_ADDRESS", None)
os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # else Ray 2.60 writes to the user's home
os.environ.setdefault("RAY_worker_niceness", "0")  # a test waits for its workers
os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # for machines that are busy
os.environ.setdefault("OMP_NUM_THREADS", "1")  # threads that wait for each other's core are slow

import matplotlib
import pytest

import labs.runtime  # noqa: F401  (sets Ray's environment before ray is imported)

# isort: split
import ray

from labs.runtime.machine import compat
from labs.runtime.machine.session import in_local_mode

matplotlib.use("Agg")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real data sets beside the repository; the test is skipped where there are none."""
    path = _HERE.parent.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"no test data at {path}")
    return path


@pytest.fixture(scope="module")
def private_ray() -> None:
    """A real Ray of two cores on this machine, shared by the modules that follow each other."""
    if ray.is_initialized() and not in_local_mode():
        return
    ray.shutdown()
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
    )


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """Everything in this process, as under ``--local-mode``."""
    if not compat.HAS_LOCAL_MODE:
        pytest.skip(f"Ray {ray.__version__} has no local mode")
    ray.shutdown()
    ray.init(address="local", local_mode=True, num_cpus=2, configure_logging=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def without_ray() -> None:
    """No Ray that a module before this one has left."""
    ray.shutdown()
