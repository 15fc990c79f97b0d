"""Intervals over seeds, episodes and test items: pure functions, used by every experiment.

The statistics of Agarwal et al. (2021, arXiv:2108.13264) are written out here because their library,
rliable 1.2.0, needs a version of arch that cannot be imported with pandas 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special  # scipy.stats takes longer to import than torch, in every worker


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; ``low`` and ``high`` are NaN where none exists."""

    estimate: float
    low: float
    high: float
    n: int
    """Number of independent values (seeds, episodes, test items)."""

    @property
    def excludes_zero(self) -> bool:
        """Whether the data tell the sign of the quantity."""
        return self.low > 0 or self.high < 0

    def within(self, least: float, most: float) -> Interval:
        """The same with its ends inside a range, such as 0 to 1 for an accuracy."""
        low, high = (max(least, min(most, end)) for end in (self.low, self.high))
        return self if math.isnan(self.low) else replace(self, low=low, high=high)

    def format(self, digits: int = 3, scale: float = 1.0) -> str:
        """``0.934 [0.921, 0.947]``; the estimate alone where there is no interval."""
        text = f"{self.estimate * scale:.{digits}f}"
        if math.isnan(self.low):
            return text
        return f"{text} [{self.low * scale:.{digits}f}, {self.high * scale:.{digits}f}]"

    def __str__(self) -> str:
        return self.format()


def _finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    array = np.asarray(values, dtype=float).ravel()
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"an interval needs one or more finite values, not {array.tolist()}")
    return array


def mean_interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean of independent values, for instance one per seed.

    Raises:
        ValueError: no values, or one of them is not finite.
    """
    array = _finite(values)
    mean, low, high = mean_band(array[:, None], confidence)
    return Interval(float(mean[0]), float(low[0]), float(high[0]), array.size)


def mean_band(
    values: np.ndarray, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``mean_interval`` of a whole curve: values ``[n, t]`` to mean, low and high ``[t]`` each.

    The interval holds point by point, not for the curve as a whole.
    """
    n, mean = len(values), values.mean(axis=0)
    if n < 2:
        none = np.full_like(mean, math.nan, dtype=float)
        return mean, none, none
    error = values.std(axis=0, ddof=1) / math.sqrt(n)
    half = special.stdtrit(n - 1, (1 + confidence) / 2) * error
    return mean, mean - half, mean + half


def geometric_interval(values: np.ndarray) -> Interval:
    """Geometric mean of positive values and its 95% interval (Student's t of the logarithms).

    Raises:
        ValueError: no values, or one of them is not finite and positive.
    """
    if np.min(values, initial=math.inf) <= 0:
        raise ValueError(f"a geometric mean needs positive values, not {np.min(values)}")
    logs = mean_interval(np.log(values))
    return Interval(math.exp(logs.estimate), math.exp(logs.low), math.exp(logs.high), logs.n)


def difference_interval(
    first: Sequence[float] | np.ndarray,
    second: Sequence[float] | np.ndarray,
    confidence: float = 0.95,
) -> Interval:
    """Welch's interval of ``mean(first) - mean(second)``; ``n`` is the smaller sample's size.

    The variances may differ (Welch, 1947). With fewer than two values on a side there is no
    interval.

    Raises:
        ValueError: no values on a side, or one of them is not finite.
    """
    a, b = _finite(first), _finite(second)
    mean = float(a.mean() - b.mean())
    n = min(a.size, b.size)
    if n < 2:
        return Interval(mean, math.nan, math.nan, n)
    va, vb = a.var(ddof=1) / a.size, b.var(ddof=1) / b.size
    if va + vb == 0:
        return Interval(mean, mean, mean, n)
    freedom = (va + vb) ** 2 / (va**2 / (a.size - 1) + vb**2 / (b.size - 1))
    half = float(special.stdtrit(freedom, (1 + confidence) / 2) * math.sqrt(va + vb))
    return Interval(mean, mean - half, mean + half, n)


def proportion_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (Wilson, 1927), sound near 0 and 1.

    Raises:
        ValueError: no trials, or successes outside 0 to trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes of {trials} trials is no proportion")
    z2 = float(special.ndtri((1 + confidence) / 2)) ** 2
    share = successes / trials
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = math.sqrt(z2 * (share * (1 - share) / trials + z2 / (4 * trials**2))) / (1 + z2 / trials)
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half), trials)


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float],
    n: int,
    *,
    seed: int,
    resamples: int = 1000,
    confidence: float = 0.95,
) -> Interval:
    """Percentile bootstrap (Efron, 1979) of any statistic of ``n`` items.

    Args:
        statistic: takes int64 indices of shape ``[n]`` into the items, returns a number.
        n: number of items, for instance test texts.
        seed: of the resampling; the same seed gives the same interval.
    """
    items = [np.arange(n)]
    return stratified_interval(
        items, lambda drawn: statistic(drawn[0]), seed, resamples, confidence
    )


def stratified_interval(
    strata: Sequence[np.ndarray],
    statistic: Callable[[list[np.ndarray]], float],
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> Interval:
    """Percentile bootstrap that resamples within every stratum (Agarwal et al., 2021).

    A stratum is for instance the runs of one agent in one environment: what was decided when the
    experiment was planned, here the number of runs of each, stays fixed.

    Args:
        strata: arrays ``[runs, ...]``; runs are drawn with replacement.
        statistic: takes such a list, returns a number.
        seed: of the resampling; the same seed gives the same interval.

    Returns:
        The statistic of the data themselves, with its interval; ``n`` is the smallest stratum.
    """
    mean, low, high = stratified_band(strata, statistic, seed, resamples, confidence)
    return Interval(float(mean), float(low), float(high), min(len(runs) for runs in strata))


def stratified_band(
    strata: Sequence[np.ndarray],
    statistic: Callable[[list[np.ndarray]], float | np.ndarray],
    seed: int,
    resamples: int = 2000,
    confidence: float = 0.95,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``stratified_interval`` of a whole curve: the statistic, and both ends at each of its points.

    The interval holds point by point, not for the curve as a whole.
    """
    rng = np.random.default_rng(seed)
    values = [
        statistic([runs[rng.integers(0, len(runs), len(runs))] for runs in strata])
        for _ in range(resamples)
    ]
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return np.asarray(statistic(list(strata))), low, high


def interquartile_mean(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Mean of the middle half along the first axis: robust like the median, and less wasteful.

    A quarter of the values, rounded down, is left out at either end (Agarwal et al., 2021).
    """
    array = np.sort(np.asarray(values, dtype=float), axis=0)
    cut = len(array) // 4
    return array[cut : len(array) - cut].mean(axis=0)


def probability_of_improvement(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> float:
    """How often a run of ``first`` beats one of ``second``, a draw counting half; mean over strata.

    Mann and Whitney's U over the number of pairs, for every stratum (environment) the same weight
    (Agarwal et al., 2021).
    """
    shares = [
        np.mean((x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :]))
        for x, y in zip(first, second, strict=True)
    ]
    return float(np.mean(shares))


def performance_profile(strata: Sequence[np.ndarray], thresholds: np.ndarray) -> np.ndarray:
    """Share of runs that score more than each threshold, ``[thresholds]``; mean over strata."""
    shares = [(runs[:, None] > thresholds[None, :]).mean(axis=0) for runs in strata]
    return np.mean(shares, axis=0)
