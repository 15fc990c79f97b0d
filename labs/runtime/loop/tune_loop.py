"""Running a grid's trials in parallel, as Ray Tune trials in actors."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import TrialScheduler

from labs.runtime.directory.recorder import Recorder
from labs.runtime.loop import signals
from labs.runtime.loop.asha import AshaScheduler, Halving, entrants
from labs.runtime.loop.order import GridOrder
from labs.runtime.loop.trainable import Trainable
from labs.runtime.machine import compat
from labs.runtime.machine.resources import Resources, alive_nodes
from labs.runtime.machine.session import is_private
from labs.runtime.machine.start_watch import StartWatch
from labs.runtime.options import RuntimeOptions
from labs.runtime.output.capture import Destination
from labs.runtime.output.collector import Collector
from labs.runtime.output.remote import start_receiver
from labs.runtime.trial import GridSpec


class RecorderCallback(TrialProgressCallback):
    """Passes Tune's events to a recorder.

    It takes the place of Tune's own reporter of trials (2.54.1 to 2.60.0), which prints in a notebook, and
    when a trial ends before its first result, whatever ``verbose`` is.
    """

    def __init__(self, recorder: Recorder | None = None) -> None:
        self._recorder = recorder

    def __reduce__(self) -> tuple[type[RecorderCallback], tuple[()]]:
        # Tune (2.54.1) pickles its callbacks, and the recorder's open files cannot be pickled.
        return (RecorderCallback, ())

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial has started, for the first time or again."""
        if self._recorder is not None:
            self._recorder.started(trial.config["index"])

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """A step of the trial has ended. Tune starts the next one only after this."""
        if self._recorder is not None:
            self._recorder.reported(trial.config["index"], result)  # type: ignore[arg-type]  # Tune adds keys

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial starts again after a failure."""
        if self._recorder is not None:
            self._recorder.retried(trial.config["index"], _reason(trial))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial has failed and is not started again."""
        if self._recorder is not None:
            self._recorder.failed(trial.config["index"], _reason(trial))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The trial has reached its end, or a scheduler has stopped it."""
        if self._recorder is not None:
            self._recorder.ended(trial.config["index"])


def run_with_tune(
    grid: GridSpec,
    shared: Mapping[str, Any],
    recorder: Recorder,
    request: Resources,
    options: RuntimeOptions,
) -> None:
    """Run the recorder's unfinished trials, each with ``request``; Ray must be connected."""
    # Tune (2.54.1) always writes its own files. They are useless after the sweep, since trials write
    # their checkpoints themselves, so they go to a temporary directory.
    with (
        tempfile.TemporaryDirectory(prefix="labs-tune-") as scratch,
        recorder.collector() as collector,
        compat.stoppable_tune() as stop,
        recorder,
        signals.stopping(stop),
    ):
        grid = dataclasses.replace(grid, output=_destination(collector, options))
        trainable = tune.with_resources(
            tune.with_parameters(Trainable, grid=grid, **shared),
            tune.PlacementGroupFactory(request.bundles()),
        )
        tune.Tuner(
            trainable,
            param_space={"index": tune.grid_search(recorder.unfinished)},
            tune_config=tune.TuneConfig(
                reuse_actors=True,
                scheduler=_scheduler(grid, recorder, options),
                max_concurrent_trials=options.max_concurrent,
            ),
            run_config=tune.RunConfig(
                name="grid",
                storage_path=scratch,
                verbose=0,
                callbacks=[RecorderCallback(recorder), StartWatch(request)],
                failure_config=tune.FailureConfig(max_failures=options.max_failures),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            ),
        ).fit()


def _destination(collector: Collector, options: RuntimeOptions) -> Destination | None:
    """Where the trials' processes send their output, on a cluster from all its machines."""
    if compat.in_ray_local_mode():  # trials run in this process
        return None
    alone = is_private(options) and len(alive_nodes()) == 1
    return Destination(collector.spools, None if alone else start_receiver(collector.spools))


def _scheduler(grid: GridSpec, recorder: Recorder, options: RuntimeOptions) -> TrialScheduler:
    if options.scheduler != "asha":
        return GridOrder()
    halving = Halving(
        entrants([trial.config for trial in grid.trials], grid.objective), grid.objective.mode
    )
    for index in range(len(grid.trials)):
        halving.replay(index, *recorder.record(index), metric=grid.objective.metric)
    return AshaScheduler(halving, grid.objective)


def _reason(trial: Any) -> str:
    """Why a process ended without reporting a failure, as far as Tune's error file says."""
    with contextlib.suppress(OSError, TypeError):
        text = Path(trial.error_file).read_text(encoding="utf-8").rpartition("Failure #")[2].strip()
        if "in its creation task" in text:  # for instance a module that is missing on its machine
            return text.splitlines()[-1].strip()
    return "its process died (out of memory, or killed)"
