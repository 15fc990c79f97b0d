"""Sessions: private, in local mode, joined; and what they listen on."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from labs.runtime.errors import InputError
from labs.runtime.machine import compat
from labs.runtime.machine.resources import (
    Needs,
    Node,
    Resources,
    alive_nodes,
    concurrent_trials,
    gpu_hint,
    require_room,
    trial_resources,
)
from labs.runtime.options import RuntimeOptions


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
        from labs.runtime.machine.session import connect, in_local_mode
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
        from labs.runtime.machine.session import connect, in_local_mode
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
    with pytest.raises(InputError, match="1 CPU and 3 GPU, and not even one fits"):
        require_room(Resources(1, 3), nodes)


def test_default_resources() -> None:
    with_gpu, without = [{"CPU": 8.0, "GPU": 1.0}], [{"CPU": 8.0, "GPU": 0.0}]
    assert trial_resources(RuntimeOptions(), with_gpu) == Resources(1, 1)
    assert trial_resources(RuntimeOptions(), without) == Resources(1, 0)
    assert trial_resources(RuntimeOptions(), with_gpu, Needs(gpu=False)) == Resources(1, 0)
    asked = RuntimeOptions(cpus_per_trial=2, gpus_per_trial=0.5)
    assert trial_resources(asked, with_gpu) == Resources(2, 0.5)
    assert trial_resources(asked, with_gpu, Needs(gpu=False)) == Resources(2, 0.5)  # as asked


def test_memory_is_counted_where_it_is_known() -> None:
    gib = 2.0**30
    nodes = [{"CPU": 8.0, "GPU": 0.0, "memory": 10 * gib}, {"CPU": 8.0, "GPU": 0.0}]
    request = Resources(1, memory=3)
    assert request.bundles() == [{"CPU": 1, "memory": 3 * 2**30}]
    assert concurrent_trials(request, nodes[:1]) == 3
    assert concurrent_trials(request, nodes) == 3 + 8  # of the second machine it is not known
    assert str(Resources(2, 1, memory=1.5)) == "2 CPU, 1 GPU and 1.5 GiB"
    options = RuntimeOptions(memory_per_trial=12)
    assert trial_resources(options, nodes).memory == 12
    with pytest.raises(InputError, match=r"1 CPU and 12 GiB, .* 8 CPU and 0 GPU and 10\.0 GiB \("):
        require_room(trial_resources(options, nodes[:1]), nodes[:1])


@pytest.mark.parametrize(
    ("gpus", "node", "trials", "expected"),
    [
        (1, {"CPU": 8.0, "GPU": 1.0}, 12, "--gpus-per-trial 0.25 would run 4 at a time"),
        (1, {"CPU": 8.0, "GPU": 2.0}, 12, "would run 8 at a time"),
        (1, {"CPU": 3.0, "GPU": 1.0}, 12, "would run 3 at a time"),  # cores are the limit
        (1, {"CPU": 8.0, "GPU": 1.0}, 2, "would run 2 at a time"),
        (1, {"CPU": 8.0, "GPU": 1.0}, 1, ""),
        (1, {"CPU": 1.0, "GPU": 1.0}, 12, ""),
        (0.25, {"CPU": 8.0, "GPU": 1.0}, 12, ""),  # as asked
        (0, {"CPU": 8.0, "GPU": 1.0}, 12, ""),
        (4, {"CPU": 8.0, "GPU": 4.0}, 12, "one process, which sees its 4 GPUs"),
    ],
)
def test_messages_about_gpus(gpus: float, node: Node, trials: int, expected: str) -> None:
    hint = gpu_hint(Resources(1, gpus), [node], trials)
    assert expected in hint
    assert bool(hint) == bool(expected)


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_ray_s_own_count_of_memory() -> None:
    (node,) = alive_nodes()
    assert 2**28 < node["memory"] < 2**50
    assert compat.free_nodes()[0]["memory"] <= node["memory"]
