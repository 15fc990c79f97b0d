"""Where nothing happens for a while, one line says what is waited for."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import ray

from labs.runtime.loop import waiting
from labs.runtime.loop.waiting import Pauses, report_while_waiting
from labs.runtime.machine import compat, resources, start_watch
from labs.runtime.machine.resources import Resources, reserve_request
from labs.runtime.machine.start_watch import StartWatch, waited_for


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_first_after_half_a_minute_then_more_rarely() -> None:
    clock = Clock()
    pauses = Pauses(clock)
    said = []
    for _ in range(8000):
        clock.now += 1.0
        seconds = pauses.due()
        if seconds is not None:
            said.append(seconds)
    assert said[:6] == [30, 90, 210, 450, 930, 1530]
    assert {b - a for a, b in itertools.pairwise(said[5:])} == {600}
    pauses.restart()
    clock.now += 29.5
    assert pauses.due() is None
    clock.now += 0.5
    assert pauses.due() == 30


def test_a_block_that_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(waiting, "FIRST_SECONDS", 0.05)
    with report_while_waiting("Godot", interval=0.01):
        deadline = time.monotonic() + 10
        while not (out := capsys.readouterr().out) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert out == "waiting for Godot (0 s)\n"
    with report_while_waiting("nobody", interval=0.01):
        pass
    time.sleep(0.1)
    assert capsys.readouterr().out == ""


def test_no_trial_has_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    monkeypatch.setattr(start_watch, "waited_for", lambda request: f"a place for {request}")
    watch = StartWatch(Resources(3), Pauses(clock))
    pending, running = SimpleNamespace(status="PENDING"), SimpleNamespace(status="RUNNING")
    clock.now += 20
    watch.on_step_begin(1, [pending, running])
    clock.now += 29
    watch.on_step_begin(2, [pending, pending])
    assert capsys.readouterr().out == ""
    clock.now += 2
    watch.on_step_begin(3, [pending, pending])
    watch.on_step_begin(4, [pending, pending])
    expected = "no trial has started for 31 s: waiting for a place for 3 CPU\n"
    assert capsys.readouterr().out == expected


def test_a_cluster_that_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_watch, "alive_nodes", lambda: [{"CPU": 2.0, "GPU": 0.0}])
    monkeypatch.setattr(compat, "autoscaler_error", lambda: "")
    monkeypatch.setattr(compat, "failed_launches", lambda: {})
    request = Resources(4, 1)
    text = "a machine with room for 4 CPU and 1 GPU; the cluster is growing"
    assert waited_for(request) == text
    monkeypatch.setattr(compat, "autoscaler_error", lambda: "InsufficientInstanceCapacity")
    assert waited_for(request) == f"{text}; the autoscaler says: InsufficientInstanceCapacity"
    failed = {"t4": "no capacity in us-west-2a", "a10g": "quota of 0"}
    monkeypatch.setattr(compat, "failed_launches", lambda: failed)
    reasons = "t4: no capacity in us-west-2a; a10g: quota of 0"
    assert waited_for(request) == f"{text}; the autoscaler says: {reasons}"


RESERVE = {"dear": {"CPU": 4.0, "GPU": 1.0, "on_demand": 1.0}}


@pytest.mark.parametrize(
    ("request_", "failed", "expected"),
    [
        (Resources(2, 0.5), {"t4": "x"}, ("dear", {"CPU": 2, "GPU": 0.5, "on_demand": 1.0})),
        (Resources(2, 0.5), {}, None),
        (Resources(2, 2), {"t4": "x"}, None),  # no room on it
        (Resources(2, 0.5), {"dear": "x"}, None),
        (Resources(2, 0.5), {"t4": "x", "dear": "x"}, None),
    ],
)
def test_the_fallback_of_a_trial(
    request_: Resources, failed: dict[str, str], expected: object
) -> None:
    assert reserve_request(request_, failed, RESERVE) == expected


PENDING, RUNNING = SimpleNamespace(status="PENDING"), SimpleNamespace(status="RUNNING")


def requested() -> list[tuple[str, dict[str, float]]]:
    """State and first bundle of every placement group that Ray has not removed."""
    groups = ray.util.placement_group_table().values()
    return [(g["state"], g["bundles"][0]) for g in groups if g["state"] != "REMOVED"]


def wait_for(expected: list[tuple[str, dict[str, float]]]) -> None:
    deadline = time.monotonic() + 60
    while requested() != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    assert requested() == expected


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_the_fallback_machine_is_requested_until_a_trial_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failed: dict[str, str] = {}
    monkeypatch.setattr(start_watch, "waited_for", lambda request: "a place")
    monkeypatch.setattr(start_watch, "reserve_kinds", lambda: RESERVE)
    monkeypatch.setattr(compat, "failed_launches", lambda: failed)
    clock = Clock()
    watch = StartWatch(Resources(1, 1), Pauses(clock))

    def after(seconds: float, *trials: SimpleNamespace) -> str:
        clock.now += seconds
        watch.on_step_begin(1, list(trials))
        return capsys.readouterr().out

    waiting = [("PENDING", {"CPU": 1, "GPU": 1, "on_demand": 1})]
    assert after(31, PENDING).count("\n") == 1  # nothing has failed yet
    failed["t4"] = "no capacity"
    assert requested() == []
    assert after(61, PENDING).endswith(
        "\nno machine of t4 can be started: requesting one of dear\n"
    )
    wait_for(waiting)
    assert "requesting" not in after(121, PENDING)
    assert requested() == waiting
    after(1, RUNNING)
    wait_for([])
    after(1, RUNNING)
    after(31, PENDING)  # the machine was taken away, too
    wait_for(waiting)
    watch.on_experiment_end([PENDING])
    wait_for([])


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_the_requested_machine_is_for_the_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cores are free when it is there; it is not idle before a trial runs, or Ray would end it."""
    mark = f"node:{ray.util.get_node_ip_address()}"  # something that this machine has one of
    for module in (start_watch, resources):
        monkeypatch.setattr(module, "RESERVE", mark)
    monkeypatch.setattr(start_watch, "reserve_kinds", lambda: {"dear": {"CPU": 2.0, mark: 1.0}})
    monkeypatch.setattr(compat, "failed_launches", lambda: {"t4": "no capacity"})
    clock = Clock()
    watch = StartWatch(Resources(2), Pauses(clock))
    clock.now += 31
    watch.on_step_begin(1, [PENDING])
    wait_for([("CREATED", {"CPU": 2, mark: 1})])
    for _ in range(3):
        watch.on_step_begin(2, [PENDING])
    wait_for([("CREATED", {mark: 1})])
    trial = ray.util.placement_group([{"CPU": 2}])
    assert trial.wait(30)
    ray.util.remove_placement_group(trial)
    watch.on_step_begin(3, [RUNNING])
    wait_for([])


DRIVER = """
import sys, time, ray
import labs.runtime
from labs.runtime.loop.waiting import Pauses
from labs.runtime.machine import compat, start_watch
from labs.runtime.machine.resources import Resources
ray.init(sys.argv[1], log_to_driver=False, configure_logging=False)
compat.failed_launches = lambda: {"t4": "no capacity"}
start_watch.reserve_kinds = lambda: {"dear": {"CPU": 4.0, "GPU": 1.0, "on_demand": 1.0}}
now = [0.0]
watch = start_watch.StartWatch(Resources(1, 1), Pauses(lambda: now[0]))
now[0] = 31.0
watch.on_step_begin(1, [])
sys.stdout.flush()
time.sleep(600)
"""


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_a_killed_driver_leaves_no_request() -> None:
    """It would keep a machine at the full price for as long as the head runs."""
    address = ray.get_runtime_context().gcs_address
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, address], stdout=subprocess.PIPE, text=True
    )
    try:
        said = [driver.stdout.readline() for _ in range(2)]
        assert said[1] == "no machine of t4 can be started: requesting one of dear\n", said
        wait_for([("PENDING", {"CPU": 1, "GPU": 1, "on_demand": 1})])
    finally:
        driver.kill()
        driver.wait()
    wait_for([])


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
def test_cores_that_others_hold() -> None:
    def wait_until(expected: str) -> None:
        deadline = time.monotonic() + 30
        while (text := waited_for(Resources(1))) != expected and time.monotonic() < deadline:
            time.sleep(0.1)
        assert text == expected

    wait_until("the processes of the first trials to start")
    held = ray.util.placement_group([{"CPU": 2}])
    ray.get(held.ready())
    ours = ray.util.placement_group([{"CPU": 1}])
    try:
        wait_until("1 CPU: only 0 of 2 CPU are free, the rest is in use")
        assert compat.autoscaler_error() == ""
        key = ray._private.ray_constants.DEBUG_AUTOSCALING_ERROR
        ray.experimental.internal_kv._internal_kv_put(key, "Traceback:\n  x\nno capacity\n\n")
        assert compat.autoscaler_error() == "no capacity"
        ray.experimental.internal_kv._internal_kv_del(key)
    finally:
        ray.util.remove_placement_group(ours)
        ray.util.remove_placement_group(held)
