"""Adding seeds in rounds until it is decided which config is the best: ``--until-decided``.

After each round (:func:`labs.analysis.decisions.look_sizes`) the results are looked at, and only the
configs that may still be the best get more seeds. All looks share the error rate of 5% (see
``labs/analysis/decisions.py``), and each is recorded in the run's ``looks.json``. A round resumes the run
of the round before, so an interrupted search can be resumed as well.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from labs.analysis.configs import SEED
from labs.analysis.decisions import Decision, look_sizes
from labs.runtime.directory.description import read_description, recorded_trials
from labs.runtime.directory.identity import plain
from labs.runtime.errors import InputError
from labs.runtime.loop.console import say
from labs.runtime.machine.session import connect
from labs.runtime.options import RuntimeOptions
from labs.runtime.results import GridResult

DEFAULT_MAX_SEEDS = 20
"""Seeds per config by default: they find a difference of one standard deviation in about 80% of cases."""

Round = Callable[[Sequence[Any], RuntimeOptions], tuple[GridResult, Decision | None, Path]]
"""Runs configs in one run's directory; returns the results, the decision and the directory."""


def max_seeds(until_decided: Sequence[int] | None) -> int | None:
    """The limit that the option sets, ``DEFAULT_MAX_SEEDS`` without a number; None if it is not given.

    Raises:
        InputError: several numbers.
    """
    if until_decided is None:
        return None
    if len(until_decided) > 1:
        raise InputError("`until_decided` takes one number: the largest number of seeds per config")
    return until_decided[0] if until_decided else DEFAULT_MAX_SEEDS


def run_until_decided(
    one_round: Round, configs: Sequence[Any], options: RuntimeOptions, limit: int
) -> GridResult:
    """Add seeds to the configs that may be the best; returns the result of the last round.

    Args:
        one_round: runs configs.
        configs: the first configs. Those of a resumed run keep their seeds.
        options: where and how to run.
        limit: largest number of seeds per config.

    Raises:
        InputError: there is nothing to decide, or ``configs`` have more seeds than ``limit``.
    """
    groups = _by_config(configs)
    _require_several_configs(groups, configs, options, limit)
    if options.resume is not None:
        _add_recorded(groups, options.resume)
    first = look_sizes(limit)[0]
    for group in groups.values():
        _grow(group, first)
    with connect(options):  # one Ray for all rounds
        return _rounds(one_round, groups, options, limit)


def _rounds(
    one_round: Round, groups: Mapping[str, list[Any]], options: RuntimeOptions, limit: int
) -> GridResult:
    while True:
        trials = [config for group in groups.values() for config in group]
        result, decision, path = one_round(trials, options)
        if result.exit_status or decision is None:
            return result
        recorded = recorded_trials(read_description(path))
        in_question = [decision.configs[place] for place in decision.in_question]
        keys = [_key(recorded[config.trials[0]].config) for config in in_question]
        smallest = min((len(groups[key]) for key in keys), default=limit)
        if smallest >= limit:
            _say_outcome(decision, len(trials), limit * len(groups))
            return result
        size = next(size for size in look_sizes(limit) if size > smallest)
        say(f"not decided yet: {len(keys)} of {len(groups)} configs get up to {size} seeds")
        for key in keys:
            _grow(groups[key], size)
        options = dataclasses.replace(options, resume=str(path), run_name=None, rerun=None)


def _key(config: Mapping[str, Any]) -> str:
    """All fields of a plain config except the seed."""
    return json.dumps({name: value for name, value in config.items() if name != SEED})


def _by_config(configs: Sequence[Any]) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for config in configs:
        groups.setdefault(_key(plain(config)), []).append(config)
    return groups


def _require_several_configs(
    groups: Mapping[str, Sequence[Any]],
    configs: Sequence[Any],
    options: RuntimeOptions,
    limit: int,
) -> None:
    if not hasattr(configs[0], SEED):
        raise InputError(
            f"{type(configs[0]).__name__} has no field seed, so `until_decided` cannot add seeds"
        )
    if len(groups) < 2:
        raise InputError(
            "`until_decided` needs several configs to decide between: give several values of a field"
        )
    if options.scheduler != "fifo":
        raise InputError(
            "`until_decided` compares trials that ran to their end, and `scheduler` asha stops trials:"
            " use only one"
        )
    given = max(len(group) for group in groups.values())
    if limit < max(3, given):
        raise InputError(f"`until_decided` {limit} is too small: use {max(3, given)} or more")


def _add_recorded(groups: Mapping[str, list[Any]], directory: str) -> None:
    """Add the seeds of earlier rounds, which a resumed run must have."""
    for trial in recorded_trials(read_description(directory)):
        group = groups.get(
            _key(trial.config)
        )  # None for a config that is missing; the run refuses it
        seed = trial.config[SEED]
        if group is not None and all(getattr(config, SEED) != seed for config in group):
            group.append(dataclasses.replace(group[0], seed=seed))


def _grow(group: list[Any], size: int) -> None:
    """Add the next seeds to a config until it has ``size``."""
    while len(group) < size:
        following = max(getattr(config, SEED) for config in group) + 1
        group.append(dataclasses.replace(group[0], seed=following))


def _say_outcome(decision: Decision, trials: int, limit: int) -> None:
    saved = f"{trials} trials instead of {limit}: {limit - trials} saved"
    if not decision.decided:
        left = ", ".join(decision.configs[place].label for place in decision.candidates)
        say(f"not decided with all seeds ({saved}): any of these may be the best: {left}")
        return
    winner = decision.configs[decision.candidates[0]]
    say(f"decided at n = {len(winner.scores)}: {winner.label} is the best ({saved})")
