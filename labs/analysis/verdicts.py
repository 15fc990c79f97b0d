"""Conclusions in sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from labs.analysis.configs import ConfigRuns, config_label
from labs.analysis.decisions import Decision
from labs.analysis.summary import score_interval
from labs.statistics import MIN_SEEDS, difference_interval

MAX_NAMED = 5
"""Largest number of configs that a sentence names; it counts the others."""


def not_compared(configs: Sequence[ConfigRuns]) -> list[str]:
    """A sentence that names the configs with stopped or failed seeds; empty if there are none."""
    excluded = [config for config in configs if not config.complete]
    if not excluded:
        return []
    parts = [f"{config.label} ({_missing(config)})" for config in excluded]
    return [f"Not compared, since some of their seeds did not finish: {_named(parts)}."]


def _missing(config: ConfigRuns) -> str:
    counts = (
        (config.stopped, "stopped"),
        (config.failed, "failed"),
        (config.unfinished, "not finished"),
    )
    found = " and ".join(f"{count} {what}" for count, what in counts if count)
    return f"{found} of {len(config.trials)}"


def best_sentences(decision: Decision, metric: str) -> list[str]:
    """Which config is the best, and which ones may be as good, with the seeds that would decide it."""
    configs = decision.configs
    if not configs:
        return [f"No config can be judged by {metric}: no config has all of its seeds finished."]
    first = configs[0]
    seeds = f"{len(first.scores)} seed{'s' * (len(first.scores) != 1)}"
    score = f"{metric} {score_interval(first).shown(4)}, {seeds}"
    measured = f"{first.label}: {score}"
    if len(configs) == 1:
        if first.label == config_label({}):  # no field varies
            return [f"One config, with nothing to compare it to: {score}."]
        return [f"Only one config can be judged: {measured}."]
    if decision.decided:
        best = configs[decision.candidates[0]]
        others = f"the {len(configs) - 1} others" if len(configs) > 2 else "the other"
        return [
            f"The best of {len(configs)} configs is {best.label}: {metric}"
            f" {score_interval(best).shown(4)}, {len(best.scores)} seeds; it is significantly better"
            f" than {others}."
        ]
    if min(len(config.scores) for config in configs) < MIN_SEEDS:
        return [
            f"The best mean is that of {measured}. Fewer than {MIN_SEEDS} seeds decide nothing: use"
            f" {MIN_SEEDS} or more."
        ]
    rivals = [place for place in decision.candidates if place != 0]
    named = _named([configs[place].label + _more(decision, place) for place in rivals])
    sentence = f"The best mean is that of {measured}; the seeds cannot tell it from {named}"
    return [f"{sentence}."]


def _more(decision: Decision, place: int) -> str:
    needed = decision.seeds_to_tell(0, place)
    have = max(len(decision.configs[i].scores) for i in (0, place))
    if needed is None or needed <= have:
        return ""
    return f" (about {needed} seeds each probably would)"


def default_sentences(decision: Decision) -> list[str]:
    """Which configs are better and which are worse than the defaults; empty without a default."""
    place = decision.default
    if place is None or len(decision.configs) < 2:
        return []
    default = decision.configs[place]
    better = np.flatnonzero(decision.beats[:, place])
    worse = np.flatnonzero(decision.beats[place])
    sentences = []
    for word, places in (("Better", better), ("Worse", worse)):
        if len(places):
            parts = [_difference(decision.configs[i], default) for i in places]
            sentences.append(f"{word} than the defaults ({default.label}): {_named(parts)}.")
    unknown = len(decision.configs) - 1 - len(better) - len(worse)
    if unknown:
        subject = "No config" if not sentences else f"{unknown} more"
        verb = "can be told" if not sentences else "cannot be told"
        sentences.append(f"{subject} {verb} from the defaults ({default.label}).")
    return sentences


def _difference(config: ConfigRuns, default: ConfigRuns) -> str:
    gain = difference_interval(config.scores, default.scores)
    return f"{config.label} by {gain.estimate:+.4g}"


def sentences(configs: Sequence[ConfigRuns], decision: Decision, metric: str) -> list[str]:
    """All conclusions of a grid: the best config, the defaults, what is not compared, and a doubt."""
    return [
        *best_sentences(decision, metric),
        *default_sentences(decision),
        *not_compared(configs),
        *_equal_seeds(configs, metric),
    ]


def _equal_seeds(configs: Sequence[ConfigRuns], metric: str) -> list[str]:
    """A doubt where no config's seeds differ: then they say nothing about chance."""
    repeated = [config.scores for config in configs if len(config.scores) > 1]
    if not repeated or any(np.ptp(scores) > 0 for scores in repeated):
        return []
    return [f"All seeds of a config have the same {metric}: does the training use its seed?"]


def _named(parts: Sequence[str]) -> str:
    if len(parts) <= MAX_NAMED:
        return ", ".join(parts)
    return f"{', '.join(parts[:MAX_NAMED])} and {len(parts) - MAX_NAMED} more"
