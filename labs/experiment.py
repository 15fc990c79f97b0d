"""A user's own experiment: a generator of reports and a dataclass.

``labs.main`` turns the dataclass into a command line, ``labs.sweep`` does the same from Python. Both run
the grid and write tables, curves and conclusions.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from labs.analysis.answers import write_answers
from labs.analysis.configs import SEED
from labs.analysis.decisions import Decision
from labs.analysis.report.page import open_run
from labs.rounds import max_seeds, run_until_decided
from labs.runtime.cli import launch
from labs.runtime.errors import InputError
from labs.runtime.field_options import check_config_type, expand, options_type
from labs.runtime.options import RuntimeOptions
from labs.runtime.reports import Checkpoint, Objective, Report, Train
from labs.runtime.results import GridResult
from labs.runtime.sweep import run_grid

Data = Callable[[], Mapping[str, Any]]
"""Called once, in the driver; every trial gets the result as keyword arguments."""

PROCEDURE = "procedure"
"""The field of the config that selects one of several training procedures."""


@dataclass(frozen=True)
class Procedures:
    """Several training procedures as one; the config selects which."""

    by_name: Mapping[str, Train]

    def __call__(
        self, config: Any, resume: Checkpoint | None = None, **shared: Any
    ) -> Iterator[Report]:
        """The reports of the procedure that the config names."""
        return self.by_name[getattr(config, PROCEDURE)](config, resume, **shared)


@dataclass(frozen=True)
class Experiment:
    """An experiment, without its trials."""

    train: Train
    config_type: type
    objective: Objective
    data: Data | None
    name: str

    @cached_property
    def default(self) -> dict[str, Any] | None:
        """The fields of the default config; None with several procedures, which have no default."""
        if isinstance(self.train, Procedures):
            return None
        return {name: value for name, value in _fields(self.config_type()).items() if name != SEED}

    def run(
        self,
        configs: Sequence[Any],
        config: Any,
        options: RuntimeOptions,
        until_decided: int | None = None,
    ) -> GridResult:
        """Run the configs; write tables, figures and conclusions to the run's directory.

        Args:
            configs: one per trial.
            config: the description of the grid for ``config.json``.
            options: where and how to run.
            until_decided: add seeds, up to this many per config, until the best config is decided.
        """
        shared = dict(self.data()) if self.data is not None else {}
        check_signature(self.train, shared)

        def run_once(
            trials: Sequence[Any], options: RuntimeOptions
        ) -> tuple[GridResult, Decision | None, Path]:
            with open_run(self.name, config, options) as run:
                result = run_grid(
                    self.train, trials, run=run, objective=self.objective, shared=shared
                )
                decision = write_answers(result, run, default=self.default, planned=until_decided)
                run.say_curves()
            return result, decision, run.path

        if until_decided is None:
            return run_once(configs, options)[0]
        return run_until_decided(run_once, configs, options, until_decided)


def main(
    train: Train | Mapping[str, Train],
    config_type: type,
    *,
    metric: str,
    mode: Literal["max", "min"] = "max",
    last_step: int | str | None = None,
    data: Data | None = None,
    arguments: Sequence[str] | None = None,
) -> None:
    """Run an experiment from the command line, and exit with its status. Never returns.

    Each field of ``config_type`` is an option that takes one or more values. Several values span a grid,
    ``1e-4..1e-1:log`` with ``--samples`` draws from a range, and ``--seeds`` repeats each config.

    Args:
        train: generator of reports, called as ``train(config, resume=..., **data)``. Several ones, by
            name, are compared, and the option ``--procedure`` selects among them.
        config_type: frozen dataclass with a default for every field. If the experiment has a seed, its
            field must be called ``seed``.
        metric: tag that selects each trial's best report and checkpoint, and the best config.
        mode: ``max`` or ``min``: which value of the metric is better.
        last_step: the last step that a trial reports, or the name of the config's field with it;
            ``--scheduler asha`` needs it.
        data: called once, in the driver; returns the keyword arguments that all trials share.
        arguments: the command line; None takes ``sys.argv``.

    The run's directory is in ``--run-root``, in a directory with the script's name.
    """
    try:
        objective = Objective(metric, mode, last_step)
        experiment = _experiment(train, config_type, objective, data, Path(sys.argv[0]).stem)
        options = options_type(experiment.config_type, plans=True)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)

    def run(config: Any) -> int:
        configs = expand(experiment.config_type, config)
        if config.plan:
            from labs.planning import say_plan  # only here, because its import takes time

            say_plan(experiment.name, configs, objective, config.runtime)
            return 0
        limit = max_seeds(config.until_decided) if hasattr(config, "until_decided") else None
        return experiment.run(configs, config, config.runtime, limit).exit_status

    grows = [field.name for field in dataclasses.fields(options) if field.name != "runtime"]
    launch(run, options, grows=grows, arguments=arguments)


def sweep(
    train: Train | Mapping[str, Train],
    configs: Sequence[Any],
    *,
    metric: str,
    mode: Literal["max", "min"] = "max",
    last_step: int | str | None = None,
    data: Data | None = None,
    options: RuntimeOptions | None = None,
) -> GridResult:
    """Run an experiment from Python, for instance in a notebook.

    >>> labs.sweep(train, labs.grid(Trial, learning_rate=[1e-3, 1e-2], seed=range(5)), metric="val/accuracy")

    Args:
        train, metric, mode, last_step, data: as for :func:`main`. Several procedures each run every
            config.
        configs: one per trial, for instance from :func:`labs.grid`.
        options: where and how to run. The default is a private Ray on this machine.

    Raises:
        InputError: bad input; ``main`` prints the same message.
    """
    if not configs:
        raise InputError("the grid is empty: give every field at least one value")
    name = getattr(train, "__name__", "sweep")
    objective = Objective(metric, mode, last_step)
    experiment = _experiment(train, type(configs[0]), objective, data, name)
    if isinstance(train, Mapping):
        configs = [
            experiment.config_type(**_fields(config), **{PROCEDURE: procedure})
            for procedure in train
            for config in configs
        ]
    description = ConfigList(len(configs))
    return experiment.run(configs, description, options or RuntimeOptions())


@dataclass(frozen=True)
class ConfigList:
    """The description in ``config.json`` of a grid that was made in Python."""

    trials: int


def _experiment(
    train: Train | Mapping[str, Train],
    config_type: type,
    objective: Objective,
    data: Data | None,
    name: str,
) -> Experiment:
    check_config_type(config_type)
    if isinstance(train, Mapping):
        if not train:
            raise InputError("there is no training procedure: give at least one")
        config_type = _with_procedure(config_type, list(train))
        train = Procedures(dict(train))
    return Experiment(
        train=train,
        config_type=config_type,
        objective=objective,
        data=data,
        name=name,
    )


def _with_procedure(config_type: type, names: Sequence[str]) -> type:
    """The config's type with one more field, which has the names as its values."""
    if PROCEDURE in {field.name for field in dataclasses.fields(config_type)}:
        raise InputError(
            f"{config_type.__name__} has a field {PROCEDURE}, which is needed to select one of several"
            " training procedures: rename the field"
        )
    field = (PROCEDURE, Literal[tuple(names)], dataclasses.field(default=names[0]))
    return dataclasses.make_dataclass(
        config_type.__name__, [field], bases=(config_type,), frozen=True
    )


def _fields(config: Any) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


def check_signature(train: Any, shared: Mapping[str, Any]) -> None:
    """Check that procedures take a config, ``resume`` and the shared arguments, and can yield reports.

    Raises:
        InputError: a procedure does not, or it is not callable.
    """
    for procedure in train.by_name.values() if isinstance(train, Procedures) else [train]:
        if not callable(procedure):
            raise InputError(
                f"{procedure!r} is not a training procedure: give a generator function"
            )
        name = getattr(procedure, "__name__", repr(procedure))
        try:
            inspect.signature(procedure).bind(None, resume=None, **shared)
        except TypeError as error:
            wanted = ", ".join(["config", "resume=None", *shared])
            raise InputError(f"{name} must take ({wanted}): {error}") from None
        if _cannot_yield(procedure):
            raise InputError(
                f"{name} is not a generator: it must yield labs.Report(step, metrics), at least once"
            )


def _cannot_yield(procedure: Any) -> bool:
    """Whether a function neither yields nor returns anything, or is asynchronous.

    A function that returns something may return a generator, which is known only when it is called.
    """
    while isinstance(procedure, functools.partial):
        procedure = procedure.func
    procedure = inspect.unwrap(procedure)
    if inspect.iscoroutinefunction(procedure) or inspect.isasyncgenfunction(procedure):
        return True
    if not inspect.isfunction(procedure) or inspect.isgeneratorfunction(procedure):
        return False
    before, returned = None, []
    for step in dis.get_instructions(procedure):
        if step.opname == "RETURN_CONST":  # Python 3.12
            returned.append(step.argval)
        elif step.opname == "RETURN_VALUE":
            is_none = before is not None and before.opname == "LOAD_CONST" and before.argval is None
            returned.append(None if is_none else ...)
        before = step
    return bool(returned) and all(value is None for value in returned)
