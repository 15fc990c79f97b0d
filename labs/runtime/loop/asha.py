"""Stopping the less promising configs of a grid early: asynchronous successive halving (ASHA).

Li et al. (2020), A System for Massively Parallel Hyperparameter Tuning (arXiv:1810.05934), in its
stopping variant, with three differences from Tune's own scheduler:

- It decides about *configs*. The trials of a config differ only in their seed, and share the decision.
- It compares within *groups*: a deep network is not stopped because a shallow one learns faster.
- Trials are identified by their number in the run, not by an id of this session, so that a resumed run
  can replay the rungs from the record.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from labs.runtime.directory.identity import identity, plain
from labs.runtime.errors import InputError
from labs.runtime.loop.order import GridOrder
from labs.runtime.machine import compat
from labs.runtime.reports import Objective
from labs.runtime.results import DONE, STOPPED

REDUCTION = 2
"""Each rung keeps 1 / REDUCTION of a group's configs: the better half."""
RUNGS = (8, 4, 2)
"""The rungs are at 1/8, 1/4 and 1/2 of a trial's last step."""


@dataclass(frozen=True)
class Entrant:
    """A trial, as the rule sees it."""

    config: Hashable
    """Identifies the trial's config without its seed."""
    group: Hashable
    """Configs are compared only within a group."""
    last_step: int


def entrants(configs: Sequence[Any], objective: Objective) -> list[Entrant]:
    """The trials of a grid, in its order.

    Raises:
        InputError: the objective has no metric or no last step.
    """
    found = []
    for config in configs:
        fields = plain(config)
        fields.pop("seed", None)
        last_step = objective.last_step_of(config)
        if objective.metric is None or last_step is None:
            raise InputError(
                "`scheduler` asha needs an experiment with a metric and a last step: set"
                " last_step=... to the number or to the name of the field that has it"
            )
        group = identity({name: fields.get(name) for name in objective.within})
        found.append(Entrant(identity(fields), group, last_step))
    return found


class Halving:
    """The rule, without Ray: it takes the reports of each trial, and decides which trials stop.

    At a rung, a config's score is the mean over the seeds that have reached it. Whenever a trial
    reaches a rung, the configs whose furthest rung this is are judged: those below the median of the
    group's other scores at that rung are stopped, with all their seeds. A config with a seed that has
    run to its end is never stopped (with some seeds finished and some stopped it could not be compared
    with others), and neither is the last config of a group.
    """

    def __init__(self, entrants: Sequence[Entrant], mode: str) -> None:
        self._entrants = entrants
        self._sign = 1.0 if mode == "max" else -1.0
        # (group, rung) -> config -> trial -> the trial's score when it reached the rung
        self._scores: dict[tuple[Hashable, int], dict[Hashable, dict[int, float]]]
        self._scores = defaultdict(lambda: defaultdict(dict))
        self._configs: dict[Hashable, set[Hashable]] = defaultdict(set)
        for entrant in entrants:
            self._configs[entrant.group].add(entrant.config)
        self._stopped: set[tuple[Hashable, Hashable]] = set()
        self._complete: set[tuple[Hashable, Hashable]] = set()

    def report(self, trial: int, step: int, value: float | None, decide: bool = True) -> None:
        """A trial has reached ``step`` with this value of the metric, or None if it has no value.

        Args:
            decide: False when a record is replayed, since its decisions are part of the record.
        """
        entrant = self._entrants[trial]
        if step >= entrant.last_step:
            self._complete.add(self._key(entrant))
        if value is None or not math.isfinite(value):
            return
        for rung, divisor in enumerate(RUNGS):
            if step < math.ceil(entrant.last_step / divisor):
                break
            scores = self._scores[entrant.group, rung][entrant.config]
            if trial not in scores:
                scores[trial] = self._sign * value
                if decide:
                    self._decide(entrant.group, rung)

    def _decide(self, group: Hashable, rung: int) -> None:
        """Stop the configs whose furthest rung is this one and that are below the others' median."""
        further = set(self._scores[group, rung + 1])
        means = {c: float(np.mean(list(s.values()))) for c, s in self._scores[group, rung].items()}
        for config, own in sorted(means.items(), key=lambda item: item[1]):
            rivals = [mean for other, mean in means.items() if other != config]
            alive = self._configs[group] - {c for g, c in self._stopped if g == group}
            if config in further or (group, config) in self._complete or len(alive) == 1:
                continue
            if rivals and own < np.quantile(rivals, 1 - 1 / REDUCTION):
                self._stopped.add((group, config))

    def replay(
        self,
        trial: int,
        status: str | None,
        reports: Sequence[Mapping[str, Any]],
        metric: str | None,
    ) -> None:
        """Add what an earlier session recorded of a trial: its reports and its status."""
        for report in reports:
            self.report(trial, report["step"], report["metrics"].get(metric), decide=False)
        if status == STOPPED:
            self._stopped.add(self._key(self._entrants[trial]))
        elif status == DONE:
            self._complete.add(self._key(self._entrants[trial]))

    def is_stopped(self, trial: int) -> bool:
        """Whether the trial's config is stopped."""
        return self._key(self._entrants[trial]) in self._stopped

    @staticmethod
    def _key(entrant: Entrant) -> tuple[Hashable, Hashable]:
        return entrant.group, entrant.config


class AshaScheduler(GridOrder):
    """Connects Tune with :class:`Halving`. A report without the metric decides nothing."""

    def __init__(self, halving: Halving, objective: Objective) -> None:
        super().__init__()
        self._halving = halving
        self._objective = objective

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Pass the reports of one result to the rule."""
        index = trial.config["index"]
        for report in result.get("reports", ()):
            value = self._objective.value(report["metrics"])
            self._halving.report(index, report["step"], value)
        return self.STOP if self._halving.is_stopped(index) else self.CONTINUE

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The next trial; trials of stopped configs end without being started."""
        for trial, _ in compat.waiting_trials(tune_controller):
            if self._halving.is_stopped(trial.config["index"]):
                tune_controller.stop_trial(trial)
        return super().choose_trial_to_run(tune_controller)

    def debug_string(self) -> str:
        """The description that Tune would print."""
        return "ASHA over configs"
