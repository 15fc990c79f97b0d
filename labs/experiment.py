"""A user's own experiment: a generator of reports and a dataclass.

``labs.main`` turns the dataclass into a command line, ``labs.sweep`` does the same from Python. Both run
the grid and write tables, curves and conclusions.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
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
from labs.runtime.procedures import PROCEDURE, Procedures, check_signature, with_procedure
from labs.runtime.reports import Objective, Train
from labs.runtime.results import GridResult
from labs.runtime.sweep import run_grid

Data = Callable[[], Mapping[str, Any]]
"""Called once, in the driver; every trial gets the result as keyword arguments."""


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
        config_type = with_procedure(config_type, list(train))
        train = Procedures(dict(train))
    return Experiment(
        train=train,
        config_type=config_type,
        objective=objective,
        data=data,
        name=name,
    )


def _fields(config: Any) -> dict[str, Any]:
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
