"""Seeds in rounds, until it is decided which config is the best: ``--until-decided``.

After each round of :func:`labs.analysis.decisions.look_sizes` the run is looked at, and only the configs
that may still be the best get further seeds. All looks share the 5% that a wrong verdict may have (see
``labs/analysis/decisions.py``), and each stands in the run's ``looks.json``. A round reopens the run as
``resume`` does, so that an interrupted search goes on where it stopped.
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

MOST_SEEDS = 20
"""Per config, where nothing says how many: what finds a difference of one standard deviation in about
80% of the cases."""

Round = Callable[[Sequence[Any], RuntimeOptions], tuple[GridResult, Decision | None, Path]]
"""Runs the configs in one run's directory; what they gave, what they tell, and the directory."""


def most_seeds(until_decided: Sequence[int] | None) -> int | None:
    """What the option says: no number means ``MOST_SEEDS``; ``None`` where it is not given.

    Raises:
        InputError: several numbers.
    """
    if until_decided is None:
        return None
    if len(until_decided) > 1:
        raise InputError("`until_decided` takes one number: the most seeds of a config")
    return until_decided[0] if until_decided else MOST_SEEDS


def run_until_decided(
    one_round: Round, configs: Sequence[Any], options: RuntimeOptions, most: int
) -> GridResult:
    """Add seeds to the configs that are still in question; the result of the last round.

    Args:
        one_round: runs configs.
        configs: what the search begins with. Those of a resumed run keep the seeds that they have.
        options: where and how.
        most: seeds per config at most.

    Raises:
        InputError: there is nothing to decide, or more seeds than ``most`` to begin with.
    """
    groups = _by_config(configs)
    _require_a_question(groups, configs, options, most)
    if options.resume is not None:
        _add_recorded(groups, options.resume)
    first = look_sizes(most)[0]
    for group in groups.values():
        _grow(group, first)
    with connect(options):  # one Ray for all rounds
        return _rounds(one_round, groups, options, most)


def _rounds(
    one_round: Round, groups: Mapping[str, list[Any]], options: RuntimeOptions, most: int
) -> GridResult:
    while True:
        trials = [config for group in groups.values() for config in group]
        result, decision, path = one_round(trials, options)
        if result.exit_status or decision is None:
            return result
        recorded = recorded_trials(read_description(path))
        in_question = [decision.configs[place] for place in decision.in_question]
        asked = [_key(recorded[config.trials[0]].config) for config in in_question]
        smallest = min((len(groups[key]) for key in asked), default=most)
        if smallest >= most:
            _say_outcome(decision, len(trials), most * len(groups))
            return result
        size = next(size for size in look_sizes(most) if size > smallest)
        say(f"not decided yet: {len(asked)} of {len(groups)} configs get up to {size} seeds")
        for key in asked:
            _grow(groups[key], size)
        options = dataclasses.replace(options, resume=str(path), run_name=None, rerun=None)


def _key(config: Mapping[str, Any]) -> str:
    """Every field but the seed, of a plain config."""
    return json.dumps({name: value for name, value in config.items() if name != SEED})


def _by_config(configs: Sequence[Any]) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for config in configs:
        groups.setdefault(_key(plain(config)), []).append(config)
    return groups


def _require_a_question(
    groups: Mapping[str, Sequence[Any]],
    configs: Sequence[Any],
    options: RuntimeOptions,
    most: int,
) -> None:
    if not hasattr(configs[0], SEED):
        raise InputError(
            f"{type(configs[0]).__name__} has no field seed, so that `until_decided` has no seeds to add"
        )
    if len(groups) < 2:
        raise InputError(
            "`until_decided` has nothing to decide: give several values of some field, not one config"
        )
    if options.scheduler != "fifo":
        raise InputError(
            "`until_decided` compares trials that ran to their end, and `scheduler` asha stops trials:"
            " use only one"
        )
    given = max(len(group) for group in groups.values())
    if most < max(3, given):
        raise InputError(f"`until_decided` {most} is too small: use {max(3, given)} or more")


def _add_recorded(groups: Mapping[str, list[Any]], directory: str) -> None:
    """The seeds that earlier rounds of a run have added belong to it."""
    for trial in recorded_trials(read_description(directory)):
        group = groups.get(_key(trial.config))  # another config: the run says what is missing
        seed = trial.config[SEED]
        if group is not None and all(getattr(config, SEED) != seed for config in group):
            group.append(dataclasses.replace(group[0], seed=seed))


def _grow(group: list[Any], size: int) -> None:
    """Give a config the next seeds, up to so many."""
    while len(group) < size:
        following = max(getattr(config, SEED) for config in group) + 1
        group.append(dataclasses.replace(group[0], seed=following))


def _say_outcome(decision: Decision, trials: int, most: int) -> None:
    saved = f"{trials} trials instead of {most}: {most - trials} saved"
    if not decision.decided:
        left = ", ".join(decision.configs[place].label for place in decision.candidates)
        say(f"not decided with the most seeds ({saved}): any of these may be the best: {left}")
        return
    winner = decision.configs[decision.candidates[0]]
    say(f"decided at n = {len(winner.scores)}: {winner.label} is the best ({saved})")
