"""Sweeps that are killed again and again, resumed and grown; by hand there are many more (kills.py)."""

from __future__ import annotations

from pathlib import Path

import pytest
from kills import PLACES, check, fork_session, one_run, ray_session

# They fork: a child that inherits a connection to Ray waits for its threads for ever.
pytestmark = pytest.mark.usefixtures("without_ray")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [101, 102, 103])
def test_nothing_is_lost_when_processes_are_killed_at_random(tmp_path: Path, seed: int) -> None:
    assert one_run(tmp_path, seed) > 0


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("when", ["before", "after"])
def test_nothing_is_lost_when_killed_at_every_place(tmp_path: Path, place: str, when: str) -> None:
    marker = tmp_path / "died"
    count = {"write last.pt": 4, "append": 2}.get(place, 2 if "best" in place else 1)
    action, _, name = place.partition(" ")
    plan = f"{count} {when} {action} {name or 'reports'} {marker}"
    status = fork_session(str(tmp_path), 2, None, None, plan=plan, interval=0.0)
    assert status == -9 and marker.exists()
    for _ in range(20):  # trials also fail by chance
        run = next((path.parent for path in tmp_path.glob("kills/*/config.json")), None)
        if fork_session(str(tmp_path), 3, run and str(run), None) == 0:
            break
    (described,) = tmp_path.glob("kills/*/config.json")
    check(described.parent, 3)


@pytest.mark.slow
def test_the_same_with_actors(tmp_path: Path) -> None:
    """The driver dies when it has recorded a trial's end; then a trial's process, before it saves."""
    driver, actor = tmp_path / "driver-died", tmp_path / "actor-died"
    plan = f"1 after write state.json {driver}"
    assert ray_session(str(tmp_path), 3, None, None, plan=plan) == -9
    (described,) = tmp_path.glob("kills/*/config.json")
    run = described.parent
    status = ray_session(str(tmp_path), 4, str(run), None, plan=f"2 before write last.pt {actor}")
    assert driver.exists() and actor.exists()
    for _ in range(20):  # trials also fail by chance
        if status == 0:
            break
        status = ray_session(str(tmp_path), 4, str(run), None)
    check(run, 4)
