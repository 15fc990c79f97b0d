"""Estimating how long a grid takes and what it costs, without starting it: ``--plan``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labs.analysis.configs import SEED
from labs.analysis.load import LoadedRun, load_run
from labs.cluster.file import default_file
from labs.cluster.plan import PRICES_OF, longest_first, plan, read_cluster_file, simulate
from labs.runtime.directory.identity import identity, match_trials, plain
from labs.runtime.errors import InputError
from labs.runtime.loop.console import counted, duration, say, show_table
from labs.runtime.machine.resources import (
    Resources,
    available_nodes,
    require_room,
    trial_resources,
)
from labs.runtime.options import RuntimeOptions
from labs.runtime.reports import Objective
from labs.runtime.results import OVER

NODE_START = 420.0
"""Seconds from the request for a machine of a cluster to its first trial."""


@dataclass(frozen=True)
class Measured:
    """The time of a trial that ran to its end."""

    config: str
    """Identity of its config without the seed."""
    seconds: float
    last_step: int


def say_plan(
    name: str, configs: Sequence[Any], objective: Objective, options: RuntimeOptions
) -> None:
    """Print how many trials there are, how long they take and what that costs.

    The times are those of the run that is resumed, or else of the experiment's newest run with finished
    trials. A config that has run before gets its own mean time, any other the mean of all trials, per
    step if the last step is known.

    Args:
        name: name of the experiment.
        configs: one per trial. Trials of a resumed run that are over do not count.
        objective: has the last step.
        options: where it would run.

    Raises:
        InputError: the grid cannot be run; see ``run_grid``.
    """
    match_trials([], configs)  # raises if these are not the configs of a grid
    kinds = [_kind(config) for config in configs]
    resumed = load_run(options.resume) if options.resume else None
    if resumed is not None:
        over = _over(resumed)
        left = [i for i, config in enumerate(configs) if identity(plain(config)) not in over]
        say(f"{len(configs) - len(left)} of {len(configs)} trials are already finished")
        configs, kinds = [configs[i] for i in left], [kinds[i] for i in left]
    say(f"{counted(len(configs), 'trial')}, of {counted(len(set(kinds)), 'config')}")
    if not configs:
        return
    root = Path(options.run_root, name)
    source = resumed if resumed is not None else _newest(root)
    measured = [] if source is None else _measured(source)
    if not measured:
        say(f"the time is not known, since {root} has no finished trial: run one first")
        return
    assert source is not None
    say(f"the times are those of {counted(len(measured), 'trial')} in {source.path}")
    durations = [
        _expected(kind, objective.last_step_of(config), measured)
        for kind, config in zip(kinds, configs, strict=True)
    ]
    _say_time_here(durations, options)
    file = default_file()
    if file.is_file():
        cluster = read_cluster_file(file)
        request = trial_resources(options, [kind.node for kind in cluster.kinds.values()])
        say_prices(durations, request, file)
    else:
        say("the cost in a cloud is not known, since there is no cluster.yaml here")


def say_prices(
    durations: Sequence[float],
    request: Resources,
    file: Path,
    counts: Sequence[int] | None = None,
    node_start: float = NODE_START,
) -> None:
    """Print hours and dollars on the machines of a cluster file.

    Args:
        durations: seconds of each trial, in grid order.
        request: the resources of each trial.
        file: the cluster file.
        counts: numbers of machines; by default 1, 2, 4, ... up to the limit of the file.
        node_start: seconds from the request for a machine to its first trial.

    Raises:
        InputError: the file cannot be read, or a trial fits on none of its machines.
    """
    table = plan(durations, request, read_cluster_file(file), counts, node_start)
    say(
        f"{counted(len(durations), 'trial')}, each with {request}: {duration(sum(durations))} of work, the longest"
        f" {duration(longest_first(durations)[0])}"
    )
    show_table(table)
    say(
        f"hours: the longest trials first, with {duration(node_start)} for the start of the machines."
        f" dollars: {PRICES_OF}, with the head; spot instances cost less. Machines of {file}"
    )


def _say_time_here(durations: Sequence[float], options: RuntimeOptions) -> None:
    """Print the time on this machine; for a running cluster it is not known."""
    nodes = available_nodes(options)
    if not nodes:
        return
    request = trial_resources(options, nodes)
    slots = 1 if options.local_mode else require_room(request, nodes)[0]
    slots = min(slots, options.max_concurrent or slots, len(durations))
    seconds = simulate(durations, slots, 1).makespan
    say(f"here about {duration(seconds)}: {slots} at a time, each with {request}")


def _kind(config: Any) -> str:
    """Identity of a config without its seed."""
    return _kind_of(plain(config))


def _kind_of(fields: dict[str, Any]) -> str:
    return identity({key: value for key, value in fields.items() if key != SEED})


def _over(run: LoadedRun) -> set[str]:
    """The identities of the trials that are not run again."""
    statuses = dict(zip(run.table["trial"], run.table["status"], strict=True))
    trials = run.description["trials"]
    return {t["identity"] for t in trials if statuses.get(t["number"]) in OVER}


def _newest(root: Path) -> LoadedRun | None:
    """The experiment's newest run with a trial that ran to its end."""
    found = sorted(root.glob("*/config.json"), key=lambda path: -path.stat().st_mtime)
    for path in found:
        try:
            run = load_run(path.parent)
        except InputError:  # of another format
            continue
        if len(run.finished):
            return run
    return None


def _measured(run: LoadedRun) -> list[Measured]:
    configs = {trial["number"]: _kind_of(trial["config"]) for trial in run.description["trials"]}
    steps = run.history.groupby("trial")["step"].max().to_dict()
    done = run.finished
    return [
        Measured(configs[int(number)], float(seconds), int(steps[number]))
        for number, seconds in zip(done["trial"], done["seconds"], strict=True)
    ]


def _expected(kind: str, last_step: int | None, measured: Sequence[Measured]) -> float:
    """Seconds of a trial."""
    like = [trial for trial in measured if trial.config == kind] or measured
    if last_step is None:
        return float(np.mean([trial.seconds for trial in like]))
    return last_step * float(np.mean([trial.seconds / max(1, trial.last_step) for trial in like]))
