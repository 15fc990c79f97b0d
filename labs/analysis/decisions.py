"""Deciding which configs differ, with an error rate for all comparisons and all looks together.

All verdicts of a look are one family: Welch's test for every pair of configs, adjusted by Holm's
(1979) procedure, so that with a probability of at least 95% none of them is wrong. If there is a default
config, half of the weight goes to the pairs with it, which are few and the most interesting ones.

To look at the results, add seeds and look again would make errors more likely. The looks of a run
therefore share the 5%: each spends a part of it (alpha spending, Lan and DeMets, 1983), and since the
parts sum to 5%, the probability of any error is at most 5% (Bonferroni). The tests simulate it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from labs.analysis.configs import ConfigRuns
from labs.statistics import MIN_SEEDS, holm, seeds_to_tell, tested_variances, welch_p_values

ALPHA = 0.05
"""The probability of any wrong verdict, over all configs and all looks."""

_FIXED_SHARE = 0.8
"""Share of the remaining alpha that a look spends if no further look is planned. At n = 3 this costs
little (t must exceed 3.0 instead of 2.8), and a run that is grown later can still be decided."""

_SPENDING = ((0.0, 0.0), (0.15, 0.04), (0.25, 0.14), (0.4, 0.34), (0.6, 0.6), (1.0, 1.0))
"""Pairs of the share of the planned seeds and the share of alpha that is spent by then. It is small at
first, when only a large difference should end the search. With 20 seeds, the looks at 3, 5, 8, 12 and 20
spend 0.002, 0.005, 0.01, 0.013 and 0.02."""


@dataclass(frozen=True)
class Look:
    """One look at the results of a run, as it is recorded with the run."""

    seeds: Mapping[str, int]
    """Number of seeds of each compared config, by its key."""

    alpha: float
    """The alpha that the look spent."""

    verdicts: tuple[tuple[str, str], ...] = ()
    """Pairs of keys of configs that differ, the better one first."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Look:
        """A look from its JSON values."""
        verdicts = tuple((better, worse) for better, worse in values["verdicts"])
        return cls(dict(values["seeds"]), float(values["alpha"]), verdicts)


@dataclass(frozen=True)
class Decision:
    """The verdicts of one look.

    Attributes:
        configs: the configs whose seeds all ran to the end, the best mean first.
        mode: ``max`` or ``min``: which value is better.
        alpha: the alpha that this look spends.
        p_values: Holm's adjusted p-values of all pairs, ``[k, k]``; NaN without a verdict.
        default: index of the default config in ``configs``, or None.
        earlier: pairs of keys of configs that differ by an earlier look, the better one first.
        next_alpha: the alpha that a look after this one may spend.
    """

    configs: tuple[ConfigRuns, ...]
    mode: str
    alpha: float
    p_values: np.ndarray
    default: int | None = None
    earlier: frozenset[tuple[str, str]] = frozenset()
    next_alpha: float = ALPHA

    @cached_property
    def beats(self) -> np.ndarray:
        """Whether the row's config is significantly better than the column's, bool ``[k, k]``."""
        means = np.array([config.scores.mean() for config in self.configs])
        ahead = means[:, None] > means[None, :]
        with np.errstate(invalid="ignore"):
            beats = (self.p_values < self.alpha) & (ahead if self.mode == "max" else ahead.T)
        places = {config.key: place for place, config in enumerate(self.configs)}
        # Earlier verdicts stand: the alpha that they spent is for the whole run.
        for better, worse in self.earlier:
            if better in places and worse in places:
                beats[places[better], places[worse]] = True
                beats[places[worse], places[better]] = False
        return beats

    @property
    def candidates(self) -> list[int]:
        """Indices of the configs that no other one beats, any of which may be the best."""
        return [place for place in range(len(self.configs)) if not self.beats[:, place].any()]

    @property
    def decided(self) -> bool:
        """Whether only one config may be the best."""
        return len(self.candidates) == 1 < len(self.configs)

    @property
    def in_question(self) -> list[int]:
        """Indices of the configs for which more seeds may decide which is the best."""
        return [] if self.decided else self.candidates

    def seeds_to_tell(self, first: int, second: int) -> int | None:
        """Number of seeds per config with which the next look would probably show a difference.

        The level of the test is that of one pair among all pairs, and its variances are those of this
        look's test. For ``None`` see ``labs.statistics.seeds_to_tell``.
        """
        pairs = len(self.configs) * (len(self.configs) - 1) / 2
        scores = [config.scores for config in self.configs]
        variances = tested_variances(scores)[[first, second]]
        return seeds_to_tell(
            scores[first], scores[second], self.next_alpha / pairs, variances=variances
        )


def decide(
    configs: Sequence[ConfigRuns],
    mode: str,
    *,
    default: Mapping[str, Any] | None = None,
    alpha: float = ALPHA,
    items: int | None = None,
    earlier: frozenset[tuple[str, str]] = frozenset(),
) -> Decision:
    """Compare all configs whose seeds all ran to the end.

    Args:
        configs: the result of ``group_configs``; configs that are not complete are left out.
        mode: ``max`` or ``min``: which value is better.
        default: values of the fields of the default config.
        alpha: the level of the family.
        items: as for ``labs.statistics.difference_interval``.
        earlier: verdicts of earlier looks, which remain valid.
    """
    sign = -1.0 if mode == "max" else 1.0
    compared = [config for config in configs if config.complete]
    compared.sort(key=lambda config: sign * float(config.scores.mean()))
    place = None
    if default is not None:
        matches = [i for i, config in enumerate(compared) if _has(config, default)]
        place = matches[0] if len(matches) == 1 else None
    p_values = np.full((len(compared), len(compared)), math.nan)
    if len(compared) > 1:
        raw = welch_p_values([config.scores for config in compared], items)
        pairs = np.triu_indices(len(compared), 1)
        adjusted = holm(raw[pairs], _weights(pairs, place))
        p_values[pairs] = adjusted
        p_values[pairs[::-1]] = adjusted
    return Decision(tuple(compared), mode, alpha, p_values, place, earlier)


def planned_p_values(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], items: Sequence[int | None] | None = None
) -> np.ndarray:
    """Adjusted p-values of comparisons that were planned before the results were seen, ``[m]``.

    Welch's test for each pair, with Holm's procedure: the probability that any of the pairs with a
    value below alpha is a false positive is at most alpha. NaN without a verdict.

    Args:
        pairs: the scores of both sides.
        items: number of test items for each pair, see ``labs.statistics.difference_interval``.
    """
    counts = items or [None] * len(pairs)
    raw = [welch_p_values(pair, count)[0, 1] for pair, count in zip(pairs, counts, strict=True)]
    return holm(np.array(raw, dtype=float))


def _has(config: ConfigRuns, values: Mapping[str, Any]) -> bool:
    return all(value == values.get(name) for name, value in config.fields.items())


def _weights(pairs: tuple[np.ndarray, ...], default: int | None) -> np.ndarray:
    """Half of the weight for the pairs with the default config, half for the others."""
    special = (pairs[0] == default) | (pairs[1] == default)
    if default is None or special.all():
        return np.ones(len(special))
    return np.where(special, 1 / special.sum(), 1 / (~special).sum())


def look(
    looks: Sequence[Look],
    configs: Sequence[ConfigRuns],
    mode: str,
    *,
    planned: int | None = None,
    default: Mapping[str, Any] | None = None,
    items: int | None = None,
) -> tuple[Decision, list[Look]]:
    """Look at a run, and spend a part of the alpha that its earlier looks have left.

    To look at the same results again gives the same verdicts and spends nothing.

    Args:
        looks: the earlier looks at the run, oldest first.
        configs: the result of ``group_configs``.
        mode: ``max`` or ``min``: which value is better.
        planned: the largest number of seeds per config, if seeds are added until it is decided;
            ``None`` if no further look is planned.
        default: as for ``decide``.
        items: as for ``decide``.

    Returns:
        The decision, and the looks to record instead of ``looks``.
    """
    compared = [config for config in configs if config.complete]
    seeds = {config.key: len(config.scores) for config in compared}
    earlier = frozenset(pair for past in looks for pair in past.verdicts)
    again = bool(looks) and dict(looks[-1].seeds) == seeds
    testable = sum(n >= MIN_SEEDS for n in seeds.values()) > 1
    alpha = 0.0
    if again:
        alpha = looks[-1].alpha
    elif testable:
        alpha = next_alpha(looks, max(seeds.values()), planned)
    decision = decide(configs, mode, default=default, alpha=alpha, items=items, earlier=earlier)
    recorded = list(looks)
    if testable and not again:
        keys = [config.key for config in decision.configs]
        verdicts = tuple((keys[i], keys[j]) for i, j in np.argwhere(decision.beats))
        recorded.append(Look(seeds, alpha, verdicts))
    left = next_alpha(recorded, max(seeds.values(), default=0))
    return dataclasses.replace(decision, next_alpha=left), recorded


def next_alpha(looks: Sequence[Look], n: int, planned: int | None = None) -> float:
    """The alpha that a look at ``n`` seeds may spend.

    Args:
        looks: the earlier looks.
        n: the largest number of seeds of a config.
        planned: as for ``look``.
    """
    left = max(0.0, ALPHA - sum(past.alpha for past in looks))
    if planned is None:
        return left * _FIXED_SHARE
    before = max((max(past.seeds.values(), default=0) for past in looks), default=0)
    spent, then = (_spent_at(min(1.0, seeds / planned)) for seeds in (before, n))
    return max(0.0, left * (then - spent) / (1 - spent)) if spent < 1 else left * _FIXED_SHARE


def _spent_at(share: float) -> float:
    places, values = zip(*_SPENDING, strict=True)
    return float(np.interp(share, places, values))


def look_sizes(limit: int) -> list[int]:
    """Numbers of seeds at which to look: 3, 5, 8, 12, 20, each about 1.6 times the last, and ``limit``."""
    sizes = [3, 5, 8, 12, 20]
    while sizes[-1] < limit:
        sizes.append(round(sizes[-1] * 1.6))
    return [size for size in sizes if size < limit] + [limit]
