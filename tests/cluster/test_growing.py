"""What an autoscaling cluster could still add counts: read from the file that `ray up` leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from labs.runtime.directory.storage import StoragePath
from labs.runtime.errors import InputError
from labs.runtime.machine import resources
from labs.runtime.machine.resources import (
    Resources,
    available_nodes,
    future_nodes,
    require_room,
    require_shared_storage,
    trial_resources,
)
from labs.runtime.options import RuntimeOptions

pytestmark = pytest.mark.usefixtures("private_ray")

HEAD = [{"CPU": 0.0, "GPU": 0.0}]


@pytest.fixture
def autoscaler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A cluster of at most 8 workers of two kinds, as the head's file describes it."""
    config: dict[str, Any] = {
        "max_workers": 8,
        "head_node_type": "head",
        "available_node_types": {
            "head": {"resources": {"CPU": 0, "GPU": 0}, "max_workers": 0},
            "small": {"resources": {"CPU": 4, "GPU": 1}, "max_workers": 8},
            "large": {"resources": {"CPU": 48, "GPU": 4}, "max_workers": 2},
        },
    }
    path = tmp_path / "ray_bootstrap_config.yaml"
    path.write_text(json.dumps(config))
    monkeypatch.setattr(resources, "AUTOSCALER_CONFIG", path)
    config["path"] = path
    return config


def test_machines_that_may_start_count(autoscaler: dict[str, Any]) -> None:
    future = future_nodes(nodes=1)
    assert [node["GPU"] for node in future] == [4, 4, 1, 1, 1, 1, 1, 1]
    assert require_room(Resources(1, 1), HEAD, future) == (0, 14)
    assert require_room(Resources(1, 0.5), HEAD, future) == (0, 28)
    assert len(future_nodes(nodes=7)) == 2  # six workers have come already
    # A GPU per trial is the default, though no machine has one yet.
    assert trial_resources(RuntimeOptions(), [*HEAD, *future]) == Resources(1, 1)
    with pytest.raises(InputError, match="1 CPU and 5 GPU, and not even one fits"):
        require_room(Resources(1, 5), HEAD, future)


def test_a_machine_of_unknown_size_may_have_room(autoscaler: dict[str, Any]) -> None:
    autoscaler["available_node_types"] = {"host": {"resources": {}, "max_workers": 2}}
    autoscaler["head_node_type"], autoscaler["max_workers"] = "host", 2
    path = autoscaler.pop("path")
    path.write_text(json.dumps(autoscaler))
    assert future_nodes(nodes=2) == [{}]
    assert require_room(Resources(1, 5), HEAD, [{}]) == (0, 1)
    assert future_nodes(nodes=3) == []


def test_a_local_directory_is_refused_if_machines_may_start(autoscaler: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="this cluster has up to 9"):
        require_shared_storage(StoragePath("/home/me/runs/x"), "runs", future_nodes(nodes=1))
    require_shared_storage(
        StoragePath("s3://results/runs/x"), "s3://results/runs", future_nodes(nodes=1)
    )


def test_without_an_autoscaler_nothing_starts(tmp_path: Path) -> None:
    assert future_nodes(nodes=1) == []
    require_shared_storage(StoragePath(str(tmp_path)), "runs", [])
    assert [node["CPU"] for node in available_nodes(RuntimeOptions())] == [2.0]
