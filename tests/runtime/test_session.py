"""Sessions: private, in local mode, joined; and what they listen on."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from labs.runtime.errors import InputError
from labs.runtime.options import RuntimeOptions
from labs.runtime.resources import (
    Needs,
    Resources,
    concurrent_trials,
    require_room,
    trial_resources,
)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )


@pytest.mark.ray
def test_a_private_session_listens_on_this_machine_only(tmp_path: Path) -> None:
    done = run_python("""
        import os
        del os.environ["RAY_AUTH_MODE"]
        import psutil, ray
        from labs.runtime.options import RuntimeOptions
        from labs.runtime.session import connect, in_local_mode
        before = os.getcwd()
        with connect(RuntimeOptions(num_cpus=1)):
            assert not in_local_mode()
            assert ray.get(ray.remote(lambda: 41 + 1).remote()) == 42
            me = psutil.Process()
            family = [me, *me.children(recursive=True)]
            names = {p.name() for p in family}
            assert {"raylet", "gcs_server"} <= names, names
            found = [(p.name(), c.laddr.ip) for p in family for c in p.net_connections("inet")
                     if c.status == psutil.CONN_LISTEN]
            assert len(found) >= 2, found
            loopback = ("127.0.0.1", "::ffff:127.0.0.1", "::1")
            print("open:", [f for f in found if f[1] not in loopback])
        assert not ray.is_initialized()
        assert os.getcwd() == before
        assert not {name for name in os.environ if name.startswith("RAY_AUTH")}
        assert not os.path.exists(os.path.expanduser("~/.ray"))
    """, HOME=str(tmp_path))  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "open: []\n"
    assert done.stderr == ""


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_local_mode_starts_no_ray_and_does_not_join_a_running_cluster() -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    done = run_python("""
        import os, ray
        from labs.runtime.options import RuntimeOptions
        from labs.runtime.session import connect, in_local_mode
        with connect(RuntimeOptions(local_mode=True)):
            assert in_local_mode() and not ray.is_initialized()
            with connect(RuntimeOptions(local_mode=True)):
                assert in_local_mode()
            assert in_local_mode()
            print("inside")
        print("after")
        with connect(RuntimeOptions(address=os.environ["THERE"])):
            assert not in_local_mode()
            assert ray.get(ray.remote(lambda: os.getpid()).remote()) != os.getpid()
            print(ray.get_runtime_context().gcs_address)
    """, THERE=address)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"inside\nafter\n{address}\n"


def test_how_many_trials_fit_at_once() -> None:
    nodes = [{"CPU": 8.0, "GPU": 2.0}, {"CPU": 4.0, "GPU": 0.0}]
    assert concurrent_trials(Resources(1, 0), nodes) == 12
    assert concurrent_trials(Resources(1, 1), nodes) == 2
    assert concurrent_trials(Resources(1, 0.25), nodes) == 8
    assert concurrent_trials(Resources(3, 0), nodes) == 3  # a trial does not span machines
    assert concurrent_trials(Resources(1, 0, workers=2), nodes) == 4  # but its actors may
    with pytest.raises(InputError, match="1 CPU and 3 GPU, and there is no room"):
        require_room(Resources(1, 3), nodes)


def test_default_resources() -> None:
    with_gpu, without = [{"CPU": 8.0, "GPU": 1.0}], [{"CPU": 8.0, "GPU": 0.0}]
    assert trial_resources(RuntimeOptions(), with_gpu) == Resources(1, 1)
    assert trial_resources(RuntimeOptions(), without) == Resources(1, 0)
    assert trial_resources(RuntimeOptions(), with_gpu, Needs(gpu=False)) == Resources(1, 0)
    asked = RuntimeOptions(cpus_per_trial=2, gpus_per_trial=0.5)
    assert trial_resources(asked, with_gpu) == Resources(2, 0.5)
    assert trial_resources(asked, with_gpu, Needs(gpu=False)) == Resources(2, 0.5)  # as asked
