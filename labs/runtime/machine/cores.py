"""The number of cores that this process may use, which may be fewer than the machine has."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

_ALLOCATED = (("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"), ("NSLOTS",))
"""Variables with a job's cores, of Slurm and of Grid Engine; the first one of each that is set counts."""


def usable_cores(environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> int:
    """The minimum of the machine's cores, CPU affinity, cgroup quota and the scheduler's allocation.

    Args:
        environment: the environment variables.
        root: the directory that contains ``proc``; tests replace it.
    """
    limits = [float(os.cpu_count() or 1)]
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        limits.append(len(os.sched_getaffinity(0)))
    limits += _cgroup_quotas(root)
    for names in _ALLOCATED:
        value = next((environment[name] for name in names if name in environment), "")
        if value.isdecimal() and int(value):
            limits.append(int(value))
    return max(1, int(min(limits)))


def _cgroup_quotas(root: Path) -> list[float]:
    """The CPU quotas of this process's cgroups and of all their parents, in cores."""
    quotas = []
    for directory in _cgroups(root):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            quotas.append(_quota(directory))
    return quotas


def _quota(directory: Path) -> float:
    """A cgroup's quota; raises OSError or ValueError if it has none (``max``, or the root cgroup)."""
    if (directory / "cpu.max").exists():  # version 2
        quota, period = (directory / "cpu.max").read_text(encoding="utf-8").split()
    else:
        quota = (directory / "cpu.cfs_quota_us").read_text(encoding="utf-8")
        period = (directory / "cpu.cfs_period_us").read_text(encoding="utf-8")
    cores = int(quota) / int(period)
    if cores <= 0:  # -1 means none in version 1
        raise ValueError("no quota")
    return cores


def _cgroups(root: Path) -> Iterator[Path]:
    try:
        mounts = (root / "proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return
    # "ID PARENT DEVICE ROOT MOUNT_POINT OPTIONS... - TYPE SOURCE CONTROLLERS" (proc(5))
    found: dict[str, tuple[str, str]] = {}
    for line in mounts:
        left, _, right = (part.split() for part in line.partition(" - "))
        if len(right) == 3 and right[0] == "cgroup2":
            found[""] = (left[3], left[4])
        elif len(right) == 3 and right[0] == "cgroup" and "cpu" in right[2].split(","):
            found["cpu"] = (left[3], left[4])
    for line in groups:  # "NUMBER:CONTROLLERS:PATH", in version 2 without controllers
        _, controllers, path = line.split(":", 2)
        name = "cpu" if "cpu" in controllers.split(",") else controllers
        if name not in found:
            continue
        mounted, point = found[name]
        top = root / point.lstrip("/")
        try:
            here = top / PurePosixPath(path).relative_to(mounted)
        except ValueError:  # in a container where the path is that of the host
            here = top
        yield here
        if here != top:
            yield from (parent for parent in here.parents if parent.is_relative_to(top))
