"""Running any generator of reports over a list of configs, as parallel Ray Tune trials."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ray
import torch

from labs.runtime.directory.description import resume_command
from labs.runtime.directory.recorder import Recorder
from labs.runtime.directory.runs import Run
from labs.runtime.errors import InputError
from labs.runtime.loop.asha import entrants
from labs.runtime.loop.console import counted, say
from labs.runtime.loop.local import run_here
from labs.runtime.loop.tune_loop import run_with_tune
from labs.runtime.machine import compat
from labs.runtime.machine.devices import hidden_gpus
from labs.runtime.machine.pickling import require_picklable
from labs.runtime.machine.resources import (
    Needs,
    Node,
    Resources,
    available_nodes,
    future_nodes,
    gpu_hint,
    require_room,
    require_shared_storage,
    trial_resources,
)
from labs.runtime.machine.session import connect, in_local_mode
from labs.runtime.options import RuntimeOptions
from labs.runtime.output.log_file import DIRECTORY as LOGS
from labs.runtime.output.log_file import last_lines, log_path
from labs.runtime.reports import Objective, Train
from labs.runtime.results import GridResult
from labs.runtime.trial import BATCH_SECONDS, GridSpec, TrialSpec

SHOWN_FAILURES = 20


def run_grid(
    train: Train,
    configs: Sequence[Any],
    *,
    run: Run,
    objective: Objective | None = None,
    needs: Needs | None = None,
    shared: Mapping[str, Any] | None = None,
    cost: Callable[[Any], float] | None = None,
) -> GridResult:
    """Run ``train`` over ``configs``, log every trial, and save ``results.csv``.

    Args:
        train: generator function of a module, so that every node can import it by name.
        configs: one dataclass per trial.
        run: the run's directory; if the run is resumed, finished trials are not run again.
        objective: metric and mode by which each trial's best report and checkpoint are selected, and
            the last step. By default the last report counts.
        needs: resources of a trial, unless the options set them. The default is one core, and a GPU
            if there are any.
        shared: keyword arguments of every trial, put into Ray's object store once. NumPy arrays in
            them are read-only and not copied.
        cost: how long a config takes, in any unit. The longest trials then start first, so that no
            long one runs alone at the end (Graham, 1969); rows keep the order of the grid.

    Raises:
        InputError: no configs, two equal ones, a trial that fits on no machine, several machines
            without shared storage, a directory that cannot be written, or something that cannot be
            sent to other processes.
    """
    objective, needs, options = objective or Objective(), needs or Needs(), run.options
    configs = run.set_trials(configs, shared or {})
    run.objective = objective
    if options.scheduler == "asha":
        entrants(configs, objective)  # raises before Ray starts
    private_nodes = available_nodes(options)
    if private_nodes:  # raises before Ray starts
        require_room(trial_resources(options, private_nodes, needs), private_nodes)
    if not options.local_mode:
        require_picklable(train, "the training procedure")
        for name, value in (shared or {}).items():
            require_picklable(value, f"the data {name}")
    recorder = Recorder([trial.name for trial in run.trials], configs, run, objective)
    say(f"{counted(len(configs), 'trial')} into {run.path}")
    if recorder.unfinished:
        if cost is not None:
            recorder.costs = {index: cost(configs[index]) for index in recorder.unfinished}
            recorder.unfinished.sort(key=lambda index: -recorder.costs[index])
        try:
            with connect(options):
                _run_trials(train, configs, run, recorder, objective, needs, shared or {})
        except InputError:
            raise
        except Exception:
            if run.started:  # a bug of the driver, which must not lose what the trials have done
                _finish(run, recorder)
            raise
    return _finish(run, recorder)


def _finish(run: Run, recorder: Recorder) -> GridResult:
    """Write the results, and print what failed and how to run the rest."""
    run.lease.require()  # another driver may have taken the run over during the last trials
    result = recorder.result()
    with run.resume_hint():
        run.add_table("results", result.table)
    if result.exit_status:
        _say_failures(result, run)
    return result


def _run_trials(
    train: Train,
    configs: Sequence[Any],
    run: Run,
    recorder: Recorder,
    objective: Objective,
    needs: Needs,
    shared: Mapping[str, Any],
) -> None:
    """Run the unfinished trials, in this process or with Tune; Ray is connected if it is needed."""
    options = run.options
    here = options.local_mode and not compat.in_ray_local_mode()
    if not here:
        _require_this_process()
    elif options.scheduler == "asha":
        say("local mode runs one trial after another: asha has no effect")
    nodes = available_nodes(options)
    future = future_nodes(len(nodes))
    request = trial_resources(options, [*nodes, *future], needs)
    require_shared_storage(run.checkpoints, options.run_root, future)
    recorder.slots = _slots(request, nodes, future, options, len(recorder.unfinished))
    recorder.live = not here  # a live view would hide the debugger
    run.start()
    grid = GridSpec(
        train=train,
        trials=[
            TrialSpec(config, run.checkpoints / trial.name)
            for config, trial in zip(configs, run.trials, strict=True)
        ],
        objective=objective,
        checkpoint_interval=options.checkpoint_interval,
        # asha decides after every report, so they must not arrive in batches.
        batch_seconds=0.0 if options.scheduler == "asha" else BATCH_SECONDS,
        threads=max(1, int(request.cpus)),
        trial_timeout=options.trial_timeout,
    )
    # Only for trials in this process: an actor sees the GPUs that Ray assigns to it.
    with _own_threads(), hidden_gpus(here and not request.gpus):
        if here:
            run_here(grid, shared, recorder, options.max_failures)
        else:
            run_with_tune(grid, shared, recorder, request, options)


def _require_this_process() -> None:
    """With the Ray client, Tune would run on the head, where it cannot reach this process's recorder."""
    if ray.util.client.ray.is_connected():
        raise InputError(
            "`address` ray://... is the Ray client, which cannot return a sweep's results: run it on"
            " the cluster's head, with ray submit or ray job submit"
        )


def _slots(
    request: Resources,
    nodes: Sequence[Node],
    future: Sequence[Node],
    options: RuntimeOptions,
    trials: int,
) -> int:
    """How many trials run at once; prints it, and why not more."""
    now, later = (1, 1) if options.local_mode else require_room(request, nodes, future)
    limit = min(trials, options.max_concurrent or trials)
    line = f"{min(now, limit)} at a time, each with {request}" + gpu_hint(request, nodes, limit)
    if now < min(later, limit):
        line += f"; up to {min(later, limit)} when the cluster has added machines"
    if later < limit and options.local_mode:
        line += ": local mode runs one after another"
    elif later < limit:
        line += f": no more fit on {counted(len(nodes) + len(future), 'machine')}"
    elif limit < trials:
        line += f": no more than {options.max_concurrent} are allowed"
    say(line)
    return min(later, limit)


@contextlib.contextmanager
def _own_threads() -> Iterator[None]:
    """Restore this process's number of torch threads, which trials change in local mode."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        if in_local_mode():
            torch.set_num_threads(threads)


def _say_failures(result: GridResult, run: Run) -> None:
    failed, interrupted = result.failed, len(result.interrupted)
    if len(failed):
        say(f"{len(failed)} of {len(result.table)} trials failed:")
    for row in failed.head(SHOWN_FAILURES).itertuples():
        say(f"  {row.name}: {row.error}")
        for line in last_lines(run.path, str(row.name)):
            say(f"    | {line}")
    if len(failed) > SHOWN_FAILURES:
        say(f"  and {len(failed) - SHOWN_FAILURES} more, in {run.path / 'results.csv'}")
    if any(log_path(run.path, name).exists() for name in failed["name"]):
        say(f"what each trial has printed is in {run.path / LOGS}")
    if interrupted:
        say(f"interrupted with {interrupted} of {len(result.table)} trials not finished")
    say(f"run the rest with: {resume_command(run.path)}")
