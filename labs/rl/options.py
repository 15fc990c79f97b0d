"""The command-line options of training agents: those of the chosen algorithm, one or more values each."""

from __future__ import annotations

import dataclasses
import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from labs.rl.agents.config import BUILT_IN, AgentConfig, agent_config, find_algorithm
from labs.runtime.commandline.choices import Choice, Given
from labs.runtime.errors import InputError
from labs.runtime.field_options import TUNED, expand_values, options_type

ALIASES = {"learning_rate": ["--learning-rates"], "gamma": ["--gammas"]}


def algorithm_options(given: Given) -> type:
    """The type of the options for a command line: its algorithm's, with tuned values as defaults.

    Raises:
        InputError: the algorithm is unknown, or the command line has an option of another algorithm.
    """
    words = given.values("algorithm")
    algorithm = words[0] if words else AgentConfig.algorithm
    config_type = find_algorithm(algorithm).config_type
    names = {field.name for field in dataclasses.fields(config_type)}
    for other in BUILT_IN:
        for field in dataclasses.fields(find_algorithm(other).config_type):
            if field.name not in names and field.name in given:
                agent_config(algorithm, **{field.name: None})  # raises with the reason
    envs = given.values("env") or [config_type.env]
    configs = [
        agent_config(algorithm, env=env, **steps)
        for env, steps in itertools.product(envs, _total_steps(given.values("total_steps")))
    ]
    options = options_type(config_type, _common(configs), ALIASES)
    options.__doc__ = config_type.__doc__
    return options


def agent_configs(options: Any) -> list[AgentConfig]:
    """The configs that the options describe, one per trial.

    Args:
        options: an instance of the class that :func:`algorithm_options` returns.

    Raises:
        InputError: a value is out of range, or there are several algorithms.
    """
    if len(options.algorithm) != 1:
        raise InputError("`algorithm` takes one value: its options depend on it")
    config_type = find_algorithm(options.algorithm[0]).config_type
    found = []
    for values in expand_values(config_type, options):
        basis = {
            name: values[name] for name in ("algorithm", "env", "total_steps") if name in values
        }
        tuned = agent_config(**basis)
        # An option with its default value counts as left out, so it is not refused as without effect.
        changes = {k: v for k, v in values.items() if v != getattr(tuned, k) or k in basis}
        found.append(agent_config(**changes))
    return found


CHOICE = Choice("algorithm", tuple(BUILT_IN), algorithm_options)
"""``train_agent.py dqn`` is ``train_agent.py --algorithm dqn``."""


def _total_steps(words: Sequence[str]) -> list[dict[str, int]]:
    """The values of ``total_steps`` on the command line; for a range, its two ends."""
    ends = [end for word in words for end in word.removesuffix(":log").split("..")]
    try:
        return [{"total_steps": max(1, int(float(end)))} for end in ends] or [{}]
    except (ValueError, OverflowError):  # the parser refuses it later
        return [{}]


def _common(configs: Sequence[AgentConfig]) -> Mapping[str, Any]:
    """The values that all configs share; ``TUNED`` where they differ."""
    values = [vars(config) for config in configs]
    return {
        name: value if all(other[name] == value for other in values) else TUNED
        for name, value in values[0].items()
    }


def describe(configs: Sequence[AgentConfig]) -> str:
    """What is trained, with the value of every option; ``|`` separates the values of a grid."""
    rows = [vars(config) for config in configs]
    parts = []
    for name in rows[0]:
        values = list(dict.fromkeys(_shown(row[name]) for row in rows))
        if name not in ("algorithm", "env") and values != [""]:
            parts.append(f"{name} {' | '.join(values)}")
    what = f"{configs[0].algorithm} on {' | '.join(dict.fromkeys(row['env'] for row in rows))}"
    return textwrap.fill(f"{what}: {', '.join(parts)}", 100, subsequent_indent="  ")


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_shown, value))
    if value is None:
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)
