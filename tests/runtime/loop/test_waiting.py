"""Where nothing happens for a while, one line says what is waited for."""

from __future__ import annotations

import itertools
import time
from types import SimpleNamespace

import pytest
import ray

from labs.runtime.loop import waiting
from labs.runtime.loop.waiting import Pauses, report_while_waiting
from labs.runtime.machine import compat, start_watch
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


def test_the_fallback_machine_is_requested_until_a_trial_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[dict[str, float]]] = []
    failed: dict[str, str] = {}
    monkeypatch.setattr(start_watch, "waited_for", lambda request: "a place")
    monkeypatch.setattr(start_watch, "reserve_kinds", lambda: RESERVE)
    monkeypatch.setattr(compat, "failed_launches", lambda: failed)
    monkeypatch.setattr(compat, "ask_for_machines", asked.append)
    clock = Clock()
    watch = StartWatch(Resources(1, 1), Pauses(clock))
    pending, running = SimpleNamespace(status="PENDING"), SimpleNamespace(status="RUNNING")

    def after(seconds: float, *trials: SimpleNamespace) -> str:
        clock.now += seconds
        watch.on_step_begin(1, list(trials))
        return capsys.readouterr().out

    assert after(31, pending).count("\n") == 1  # nothing has failed yet
    failed["t4"] = "no capacity"
    assert asked == []
    assert after(61, pending).endswith(
        "\nno machine of t4 can be started: requesting one of dear\n"
    )
    assert asked == [[{"CPU": 1, "GPU": 1, "on_demand": 1.0}]]
    assert "asking" not in after(121, pending)
    after(1, running)
    assert asked[1:] == [[]]
    after(1, running)
    assert len(asked) == 2
    after(31, pending)  # the machine was taken away, too
    watch.on_experiment_end([pending])
    assert asked[2:] == [[{"CPU": 1, "GPU": 1, "on_demand": 1.0}], []]


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
