"""Estimating the time and cost of a sweep on a cluster, without starting anything.

The simulation follows the runner: whenever a slot is free, the next trial of the list starts. With the
longest trials first, this takes at most 4/3 of the best possible time (Graham 1969, "Bounds on
Multiprocessing Timing Anomalies").
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from labs.cluster.file import load
from labs.runtime.errors import InputError
from labs.runtime.machine.resources import RESERVE, Node, Resources, concurrent_trials

PRICES_OF = "June 2025, us-west-2, Linux, on demand"


@dataclass(frozen=True)
class Instance:
    """The resources and the price of an instance type."""

    cpus: int
    gpus: int
    hourly: float
    """US dollars per hour on demand. Spot instances cost less, at varying prices."""

    @property
    def node(self) -> Node:
        """Its resources in Ray's form."""
        return {"CPU": float(self.cpus), "GPU": float(self.gpus)}


INSTANCES = {
    "m6i.large": Instance(2, 0, 0.096),
    "g4dn.xlarge": Instance(4, 1, 0.526),
    "g4dn.12xlarge": Instance(48, 4, 3.912),
    "g5.xlarge": Instance(4, 1, 1.006),
    "g5.12xlarge": Instance(48, 4, 5.672),
    "g6.xlarge": Instance(4, 1, 0.8048),
    "p4d.24xlarge": Instance(96, 8, 32.7726),
}


@dataclass(frozen=True)
class ClusterFile:
    """The part of a cluster file that a plan needs."""

    head: Instance
    kinds: dict[str, Instance]
    """Kinds of workers by name, without the reserve (``on_demand``)."""
    limits: dict[str, int]
    """Largest number of machines of each kind."""
    idle_seconds: float
    """How long a machine stays after its last trial."""


@dataclass(frozen=True)
class Schedule:
    """The times of a simulated sweep."""

    makespan: float
    """Seconds from the first start to the last end."""
    node_ends: list[float]
    """Seconds until the end of each node's last trial; 0 for a node without trials."""


def read_cluster_file(path: Path) -> ClusterFile:
    """Read the head and the kinds of workers of a cluster file.

    Raises:
        InputError: it cannot be read, or has an instance type of unknown size and price.
    """
    content = load(path)
    try:
        types = {
            k: v["node_config"]["InstanceType"] for k, v in content["available_node_types"].items()
        }
        head = content["head_node_type"]
        limit = content["max_workers"]
        limits = {
            name: min(limit, kind.get("max_workers", limit))
            for name, kind in content["available_node_types"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"`file` {path} is not a cluster file for AWS: {error}") from None
    unknown = sorted(set(types.values()) - set(INSTANCES))
    if unknown:
        raise InputError(
            f"`file` {path} has {unknown[0]}, whose size and price are not known: use one of"
            f" {', '.join(INSTANCES)}, or add it to INSTANCES in labs/cluster/plan.py"
        )
    reserve = {
        n for n, k in content["available_node_types"].items() if RESERVE in k.get("resources", {})
    }
    names = [name for name in types if name != head and name not in reserve]
    workers = {name: INSTANCES[types[name]] for name in names}
    idle = 60.0 * content.get("idle_timeout_minutes", 5)
    return ClusterFile(INSTANCES[types[head]], workers, limits, idle)


def simulate(durations: Sequence[float], slots_per_node: int, nodes: int) -> Schedule:
    """Simulate trials in the given order; each takes the slot that is free first.

    Args:
        durations: seconds of each trial.
        slots_per_node: trials that one node runs at once.
        nodes: number of equal nodes, all of them available from the start.
    """
    # Of slots that are free at the same time, the first ones are on different nodes.
    free = [(0.0, slot, node) for slot in range(slots_per_node) for node in range(nodes)]
    heapq.heapify(free)
    ends = [0.0] * nodes
    for duration in durations:
        begin, slot, node = free[0]
        end = begin + duration
        ends[node] = max(ends[node], end)
        heapq.heapreplace(free, (end, slot, node))
    return Schedule(max(ends, default=0.0), ends)


def lower_bound(durations: Sequence[float], slots: int) -> float:
    """A bound for every order: the longest trial, or all work spread evenly over the slots."""
    return max(max(durations), sum(durations) / slots)


def longest_first(durations: Sequence[float]) -> list[float]:
    """The order in which ``run_grid`` starts trials if it knows their cost."""
    return sorted(durations, reverse=True)


def plan(
    durations: Sequence[float],
    request: Resources,
    cluster: ClusterFile,
    counts: Sequence[int] | None = None,
    node_start: float = 0.0,
) -> pd.DataFrame:
    """One row per kind and number of machines.

    Args:
        durations: seconds of each trial, in grid order.
        request: the resources of each trial.
        counts: numbers of machines; by default 1, 2, 4, ... up to the limit of the file.
        node_start: seconds from the request for a machine to its first trial.

    Returns:
        Columns ``kind``, ``nodes``, ``at_once`` (trials), ``hours`` (longest trials first, from the
        first request for machines to the last end), ``hours_in_grid_order``, ``hours_at_best`` (the
        lower bound), ``node_hours`` (paid for, with the idle time until a machine is terminated) and
        ``dollars`` (on demand, with the head).

    Raises:
        InputError: a trial fits on no kind of machine.
    """
    ordered = longest_first(durations)
    rows = []
    for name, instance in cluster.kinds.items():
        slots = concurrent_trials(request, [instance.node])
        if slots == 0:
            continue
        for nodes in counts or _doubling(cluster.limits[name]):
            schedule = simulate(ordered, slots, nodes)
            used = [end for end in schedule.node_ends if end > 0]
            paid = sum(end + node_start + cluster.idle_seconds for end in used) / 3600
            hours = (node_start + schedule.makespan) / 3600
            in_grid_order = simulate(durations, slots, nodes).makespan
            rows.append(
                {
                    "kind": name,
                    "nodes": nodes,
                    "at_once": min(slots * nodes, len(durations)),
                    "hours": hours,
                    "hours_in_grid_order": (node_start + in_grid_order) / 3600,
                    "hours_at_best": (node_start + lower_bound(durations, slots * nodes)) / 3600,
                    "node_hours": paid,
                    "dollars": paid * instance.hourly + hours * cluster.head.hourly,
                }
            )
    if not rows:
        have = "; ".join(f"{n}: {i.cpus} CPU and {i.gpus} GPU" for n, i in cluster.kinds.items())
        raise InputError(f"a trial needs {request}, and fits on no kind of machine ({have})")
    return pd.DataFrame(rows)


def measured_durations(run: Path, steps: int | None = None) -> list[float]:
    """Seconds of each trial of a run, in grid order.

    Args:
        run: a run's directory, for instance of a sweep with ``--epochs 1``.
        steps: scale the times to this number of steps, at each trial's measured speed.

    Raises:
        InputError: no trial in the directory has reported.
    """
    from labs.runtime.directory.tracking import read_history

    durations = []
    for directory in sorted((run / "tensorboard").glob("[0-9]*")):
        history = read_history(directory)
        if history:
            last = history[-1]
            durations.append(last["seconds"] * (steps / last["step"] if steps else 1.0))
    if not durations:
        raise InputError(f"`run` {run} has no trial that has reported: name a run directory")
    return durations


def _doubling(limit: int) -> list[int]:
    """1, 2, 4, ... and ``limit``."""
    counts = [2**power for power in range(limit.bit_length()) if 2**power < limit]
    return [*counts, limit] if limit else []
