"""What a trial asks for, what there is, and how many trials run at once."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import ray
import torch

from labs.runtime.directory.storage import StoragePath
from labs.runtime.errors import InputError
from labs.runtime.machine.cores import usable_cores
from labs.runtime.machine.session import in_local_mode, is_private
from labs.runtime.options import RuntimeOptions

Node = dict[str, float]
"""``{"CPU": 8.0, "GPU": 1.0, "memory": 3.2e10}``: what one machine has, ``memory`` in bytes where it is
known (to Ray it is what is left beside the object store)."""

SHARE_OF_A_GPU = 0.25
"""What the hint about small trials proposes: four processes with a CUDA context of half a GB each."""

RESERVE = "on_demand"
"""A resource that marks a kind of machine as the reserve of the others. No trial asks for it, so that
Ray starts a machine of another kind where it can."""

AUTOSCALER_CONFIG = Path("~/ray_bootstrap_config.yaml")
"""Where ``ray up`` leaves the completed cluster file on the head, where drivers run."""


@dataclass(frozen=True)
class Needs:
    """What a trial needs where the options do not say."""

    cpus: float = 1.0
    """Cores, which are also its torch threads."""
    workers: int = 0
    """Actors that the trial starts itself; its placement holds a core for each."""
    gpu: bool = True
    """Whether it takes a GPU, where there are any."""


@dataclass(frozen=True)
class Resources:
    """What one trial holds while it runs: its own process, and those of its actors."""

    cpus: float = 1.0
    gpus: float = 0.0
    workers: int = 0
    """Actors that the trial starts, for instance to collect rollouts."""
    cpus_per_worker: float = 1.0
    memory: float = 0.0
    """GiB of the trial's own process; 0 does not count it."""

    def bundles(self) -> list[Node]:
        """Ray's placement bundles: the trial's own first. A bundle never spans two machines."""
        own = {"CPU": self.cpus}
        if self.gpus:
            own["GPU"] = self.gpus
        if self.memory:
            own["memory"] = round(self.memory * 2**30)
        return [own] + [{"CPU": self.cpus_per_worker}] * self.workers

    def __str__(self) -> str:
        parts = [f"{self.cpus:g} CPU"]
        parts += [f"{self.gpus:g} GPU"] * bool(self.gpus)
        parts += [f"{self.memory:g} GiB"] * bool(self.memory)
        text = " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
        if self.workers:
            text += f", with {self.workers} workers of {self.cpus_per_worker:g} CPU each"
        return text


def available_nodes(options: RuntimeOptions) -> list[Node]:
    """The machines that trials can run on; for a private Ray also before it has started."""
    if ray.is_initialized() and not (in_local_mode() or options.local_mode):
        return alive_nodes()
    if ray.is_initialized() or is_private(options):
        gpus = torch.cuda.device_count()
        return [{"CPU": float(options.num_cpus or usable_cores()), "GPU": float(gpus)}]
    return []


def alive_nodes() -> list[Node]:
    """The machines of the Ray that this process is connected to."""
    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [{kind: n.get(kind, 0.0) for kind in ("CPU", "GPU", "memory")} for n in found]


def future_nodes(nodes: int) -> list[Node]:
    """The machines that the cluster's autoscaler can still add to the ``nodes`` of now, head included.

    Read from the cluster's file where this process runs on the head of a cluster made by ``ray up``;
    elsewhere none are known. The kinds with most GPUs come first, for where the file allows fewer
    machines than its kinds add up to. A machine of unknown size (``provider: local``) is ``{}``.
    """
    config = _cluster_config()
    if config is None:
        return []
    found: list[Node] = []
    for name, kind in config["available_node_types"].items():
        size = {k: float(kind["resources"].get(k, 0)) for k in ("CPU", "GPU")}
        if "memory" in kind["resources"]:
            size["memory"] = float(kind["resources"]["memory"])
        if name != config["head_node_type"] or not kind["resources"]:
            found += [size if kind["resources"] else {}] * kind.get("max_workers", 0)
    found.sort(key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)), reverse=True)
    return found[: max(0, config["max_workers"] - (nodes - 1))]


def _cluster_config() -> dict[str, Any] | None:
    """The completed cluster file, where this process runs on the head of a cluster made by ``ray up``."""
    if not ray.is_initialized() or in_local_mode() or not _on_head():
        return None
    try:
        return cast(dict[str, Any], json.loads(AUTOSCALER_CONFIG.expanduser().read_text()))
    except (OSError, ValueError):
        return None


def reserve_kinds() -> dict[str, Node]:
    """The kinds of machines that stand behind the others: those with the resource ``on_demand``."""
    kinds = (_cluster_config() or {}).get("available_node_types", {})
    sizes = {name: kind["resources"] for name, kind in kinds.items()}
    return {
        name: {key: float(amount) for key, amount in size.items()}
        for name, size in sizes.items()
        if RESERVE in size
    }


def reserve_request(
    request: Resources, failed: Mapping[str, str], reserve: Mapping[str, Node]
) -> tuple[str, Node] | None:
    """Which kind to fall back on for a trial, and the bundle that only this kind has room for.

    Args:
        request: what the trial needs.
        failed: the kinds of which no machine could be started, with the reason.
        reserve: :func:`reserve_kinds`.

    Returns:
        None where no other kind has failed, or no reserve has room that has not failed itself.
    """
    if all(kind in reserve for kind in failed):
        return None
    for kind, node in reserve.items():
        if kind not in failed and concurrent_trials(request, [node]):
            return kind, {**request.bundles()[0], RESERVE: 1.0}
    return None


def _on_head() -> bool:
    here = ray.util.get_node_ip_address()
    return any(
        node["NodeManagerAddress"] == here and "node:__internal_head__" in node["Resources"]
        for node in ray.nodes()
        if node["Alive"]
    )


def require_shared_storage(checkpoints: StoragePath, run_root: str, future: Sequence[Node]) -> None:
    """A trial that moves to another machine must find its checkpoint there.

    Raises:
        InputError: several machines, and a directory that only one of them sees.
    """
    if checkpoints.shared or in_local_mode():
        return
    alive = [node for node in ray.nodes() if node["Alive"]]
    machines = {n["NodeManagerAddress"] for n in alive if n["Resources"].get("CPU")}
    machines.add(ray.util.get_node_ip_address())
    count = len(machines) + len(future)
    if count > 1:
        raise InputError(
            f"`run_root` {run_root} is a directory of one machine, and this cluster has"
            f" {'up to ' if future else ''}{count}: trials could not go on from their checkpoints on"
            " another one. Use shared storage such as `run_root` s3://bucket/runs, or"
            " `run_root` file:///mnt/shared/runs for a directory that all machines see"
        )


def trial_resources(
    options: RuntimeOptions,
    nodes: Sequence[Node],
    needs: Needs | None = None,
) -> Resources:
    """The options' resources per trial; what they leave open is as the trial needs it.

    Args:
        options: what the user asks for.
        nodes: the machines that there are or may come.
        needs: what a trial needs; the default is a core, and a GPU where there are GPUs.
    """
    needs = needs or Needs()
    gpus = options.gpus_per_trial
    if gpus is None:
        found = needs.gpu and any(node.get("GPU", 0) >= 1 for node in nodes)
        gpus = 1.0 if found else 0.0
    cpus = options.cpus_per_trial or needs.cpus
    return Resources(cpus, gpus, needs.workers, memory=options.memory_per_trial or 0.0)


def concurrent_trials(request: Resources, nodes: Sequence[Node]) -> int:
    """How many trials fit at once: bundles are placed, first fit, until one finds no room."""
    free = [dict(node) for node in nodes]
    count = 0
    while count < 100_000:
        for bundle in request.bundles():
            node = next((n for n in free if all(_has(n, *need) for need in bundle.items())), None)
            if node is None:
                return count
            for kind, amount in bundle.items():
                if kind in node:
                    node[kind] -= amount
        count += 1
    return count


def _has(node: Node, kind: str, amount: float) -> bool:
    """Memory that is not known of a machine is taken to be enough."""
    return node.get(kind, math.inf if kind == "memory" else 0.0) + 1e-9 >= amount


def gpu_hint(request: Resources, nodes: Sequence[Node], trials: int) -> str:
    """What other shares of the GPUs would do, for the line that says how many trials run; or nothing."""
    if request.gpus > 1:
        return f" (a trial is one process, which sees its {request.gpus:g} GPUs)"
    shared = dataclasses.replace(request, gpus=SHARE_OF_A_GPU)
    more = min(concurrent_trials(shared, nodes), trials)
    if request.gpus == 1 and more > min(concurrent_trials(request, nodes), trials):
        return f" (--gpus-per-trial {SHARE_OF_A_GPU:g} would run {more} at a time, where memory allows)"
    return ""


def require_room(
    request: Resources, nodes: Sequence[Node], future: Sequence[Node] = ()
) -> tuple[int, int]:
    """How many trials run at once: now, and when the autoscaler has added what it may.

    Raises:
        InputError: not even one fits, ever; Ray would wait for it.
    """
    now = concurrent_trials(request, nodes)
    later = concurrent_trials(request, [*nodes, *future])
    if later == 0 and all(future):  # nothing is known of what an empty one has
        every = [*nodes, *future]
        have = "; ".join(sorted({_described(node) for node in every}))
        raise InputError(
            f"a trial asks for {request}, and there is no room for even one: the"
            f" {len(every)} machine{'s' * (len(every) != 1)} have {have or 'nothing'}"
            " (`cpus_per_trial`, `gpus_per_trial` and `memory_per_trial` ask for less)"
        )
    return now, max(later, 1)


def _described(node: Node) -> str:
    text = f"{node['CPU']:g} CPU and {node['GPU']:g} GPU"
    return text + (f" and {node['memory'] / 2**30:.1f} GiB" if "memory" in node else "")
