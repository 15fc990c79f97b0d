"""The cores that a process may use: affinity, cgroup quotas of both versions, a scheduler's word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from labs.runtime.machine import cores
from labs.runtime.machine.cores import usable_cores

V2 = "30 23 0:26 {mounted} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "33 32 0:29 {mounted} /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct"
MEMORY = "34 32 0:30 / /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 64 cores, all of which this process may use."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)


def system(root: Path, mounts: list[str], groups: list[str], files: dict[str, str]) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/mountinfo").write_text("\n".join(mounts) + "\n")
    (root / "proc/self/cgroup").write_text("\n".join(groups) + "\n")
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_without_any_limit_all_cores(tmp_path: Path) -> None:
    assert usable_cores({}, tmp_path) == 64


def test_affinity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 17, 40})
    assert usable_cores({}, tmp_path) == 3


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "700000 100000"}, 7),
        ({"cpu.max": "max 100000"}, 64),
        ({"cpu.max": "250000 100000"}, 2),  # the half core is not one
        ({"cpu.max": "30000 100000"}, 1),  # but one there must be
        ({"cpu.max": "max 100000", "jobs/cpu.max": "500000 100000"}, 5),  # a parent's
        ({"jobs/cpu.max": "900000 100000", "jobs/a/cpu.max": "300000 50000"}, 6),
        ({"jobs/cpu.max": "400000 100000", "jobs/a/cpu.max": "max 100000"}, 4),
        ({"jobs/a/cpu.max": "nonsense"}, 64),
    ],
)
def test_quota_of_version_2(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    root = system(tmp_path, [MEMORY, V2.format(mounted="/")], ["0::/jobs/a"], files)
    assert usable_cores({}, root) == expected


@pytest.mark.parametrize(("quota", "expected"), [("350000", 3), ("-1", 64)])
def test_quota_of_version_1(tmp_path: Path, quota: str, expected: int) -> None:
    files = {
        "cpu,cpuacct/jobs/a/cpu.cfs_quota_us": quota,
        "cpu,cpuacct/jobs/a/cpu.cfs_period_us": "100000",
        "memory/jobs/a/cpu.cfs_quota_us": "100000",
        "memory/jobs/a/cpu.cfs_period_us": "100000",
    }
    groups = ["5:memory:/jobs/a", "4:cpu,cpuacct:/jobs/a"]
    root = system(tmp_path, [MEMORY, V1.format(mounted="/")], groups, files)
    assert usable_cores({}, root) == expected


@pytest.mark.parametrize("mounted", ["/docker/1f", "/"])
def test_in_a_container(tmp_path: Path, mounted: str) -> None:
    """The mount shows the container's own cgroup at its top, whatever path the host gives it."""
    path = "/docker/1f" if mounted != "/" else "/../../docker/1f"
    root = system(
        tmp_path, [V2.format(mounted=mounted)], [f"0::{path}"], {"cpu.max": "1100000 100000"}
    )
    assert usable_cores({}, root) == 11


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_CPUS_PER_TASK": "9"}, 9),
        ({"SLURM_CPUS_PER_TASK": "9", "SLURM_CPUS_ON_NODE": "30"}, 9),
        ({"SLURM_CPUS_ON_NODE": "30"}, 30),
        ({"SLURM_CPUS_PER_TASK": "128"}, 64),  # more than there are
        ({"NSLOTS": "13"}, 13),
        ({"SLURM_CPUS_PER_TASK": ""}, 64),
        ({"SLURM_CPUS_PER_TASK": "0"}, 64),
    ],
)
def test_a_scheduler_s_allocation(
    tmp_path: Path, environment: dict[str, str], expected: int
) -> None:
    assert usable_cores(environment, tmp_path) == expected


def test_the_smallest_limit_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)))
    root = system(tmp_path, [V2.format(mounted="/")], ["0::/"], {"cpu.max": "800000 100000"})
    assert usable_cores({"SLURM_CPUS_PER_TASK": "10"}, root) == 8
    assert usable_cores({"SLURM_CPUS_PER_TASK": "6"}, root) == 6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="affinity is Linux's")
def test_a_pinned_process_plans_with_one_core() -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from labs.runtime.options import RuntimeOptions;"
        "from labs.runtime.machine.resources import available_nodes;"
        "print(available_nodes(RuntimeOptions())[0]['CPU'],"
        " available_nodes(RuntimeOptions(num_cpus=3))[0]['CPU'])"
    )
    environment = {k: v for k, v in os.environ.items() if k not in sum(cores._ALLOCATED, ())}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == "1.0 3.0\n"
