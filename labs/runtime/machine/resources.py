"""Resources: what a trial needs, what the machines have, and how many trials run at once."""

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
from labs.runtime.options import RuntimeOptions, expand_user

Node = dict[str, float]
"""``{"CPU": 8.0, "GPU": 1.0, "memory": 3.2e10}``: the resources of one machine; ``memory`` in bytes, if
it is known (Ray counts what is left beside the object store)."""

SHARE_OF_A_GPU = 0.25
"""The share that the hint for small trials suggests: four processes, each with a CUDA context of 0.6 GiB."""

RESERVE = "on_demand"
"""A resource that marks a kind of machine as the reserve for the other kinds. Trials do not ask for it,
so Ray starts a machine of another kind if it can."""

AUTOSCALER_CONFIG = Path("~/ray_bootstrap_config.yaml")
"""Where ``ray up`` writes the completed cluster file on the head, on which drivers run."""


@dataclass(frozen=True)
class Needs:
    """What a trial needs, unless the options set it."""

    cpus: float = 1.0
    """Cores, which are also its torch threads."""
    workers: int = 0
    """Actors that the trial starts itself; a core is reserved for each."""
    gpu: bool = True
    """Whether it uses a GPU, if there are any."""


@dataclass(frozen=True)
class Resources:
    """The resources of one trial while it runs: of its own process and of its actors."""

    cpus: float = 1.0
    gpus: float = 0.0
    workers: int = 0
    """Actors that the trial starts, for instance to collect rollouts."""
    cpus_per_worker: float = 1.0
    memory: float = 0.0
    """GiB of the trial's own process; 0 if memory is not counted."""

    def bundles(self) -> list[Node]:
        """Ray's placement bundles: first that of the trial itself. A bundle is on one machine."""
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
    """The machines that trials can run on; for a private Ray also before it is started."""
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
    """The machines that the autoscaler can add to the present number of ``nodes``, head included.

    They are read from the cluster file if this process runs on the head of a cluster made by ``ray
    up``; otherwise none are known. Kinds with more GPUs come first, since the file may allow fewer
    machines than all kinds together. A machine of unknown size (``provider: local``) is ``{}``.
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
    """The completed cluster file, if this process runs on the head of a cluster made by ``ray up``."""
    if not ray.is_initialized() or in_local_mode() or not _on_head():
        return None
    try:
        return cast(
            dict[str, Any], json.loads(expand_user(AUTOSCALER_CONFIG).read_text(encoding="utf-8"))
        )
    except (OSError, ValueError, InputError):
        return None


def reserve_kinds() -> dict[str, Node]:
    """The kinds of machines that are a reserve: those with the resource ``on_demand``."""
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
    """The kind of machine to fall back to for a trial, and a bundle that only this kind can hold.

    Args:
        request: what the trial needs.
        failed: the kinds of which no machine could be started, with the reasons.
        reserve: the result of :func:`reserve_kinds`.

    Returns:
        None if only kinds of the reserve have failed, or no kind of the reserve that has not failed is
        large enough.
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
    """Raise if a trial that is moved to another machine could not read its checkpoint there.

    Raises:
        InputError: there are several machines, and the directory is not marked as shared.
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
            f" {'up to ' if future else ''}{count}: trials could not continue from their checkpoints on"
            " another one. Use shared storage such as `run_root` s3://bucket/runs, or"
            " `run_root` file:///mnt/shared/runs for a directory that all machines share"
        )


def trial_resources(
    options: RuntimeOptions,
    nodes: Sequence[Node],
    needs: Needs | None = None,
) -> Resources:
    """The resources of a trial: those of the options, and for the rest what the trial needs.

    Args:
        options: the user's options.
        nodes: the machines of the cluster, now and in the future.
        needs: what a trial needs; the default is a core, and a GPU if there are any.
    """
    needs = needs or Needs()
    gpus = options.gpus_per_trial
    if gpus is None:
        found = needs.gpu and any(node.get("GPU", 0) >= 1 for node in nodes)
        gpus = 1.0 if found else 0.0
    cpus = options.cpus_per_trial or needs.cpus
    return Resources(cpus, gpus, needs.workers, memory=options.memory_per_trial or 0.0)


def concurrent_trials(request: Resources, nodes: Sequence[Node]) -> int:
    """How many trials fit at once, by placing bundles first-fit until one does not fit."""
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
    """Whether a node has enough; memory that is not known counts as enough."""
    return node.get(kind, math.inf if kind == "memory" else 0.0) + 1e-9 >= amount


def gpu_hint(request: Resources, nodes: Sequence[Node], trials: int) -> str:
    """A hint on other shares of the GPUs, for the line that says how many trials run; may be empty."""
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
        InputError: not even one trial will ever fit; Ray would wait for ever.
    """
    now = concurrent_trials(request, nodes)
    later = concurrent_trials(request, [*nodes, *future])
    if later == 0 and all(future):  # an empty node has unknown resources, which may be enough
        every = [*nodes, *future]
        have = "; ".join(sorted({_described(node) for node in every}))
        raise InputError(
            f"a trial needs {request}, and not even one fits: the"
            f" {len(every)} machine{'s' * (len(every) != 1)} have {have or 'nothing'}"
            " (set `cpus_per_trial`, `gpus_per_trial` or `memory_per_trial` to less)"
        )
    return now, max(later, 1)


def _described(node: Node) -> str:
    text = f"{node['CPU']:g} CPU and {node['GPU']:g} GPU"
    return text + (f" and {node['memory'] / 2**30:.1f} GiB" if "memory" in node else "")
