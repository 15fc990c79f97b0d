"""Bootstrap intervals, and the statistics over runs of Agarwal et al. (2021, arXiv:2108.13264).

These are implemented here because the authors' library, rliable 1.2.0, needs a version of arch that
cannot be imported with pandas 3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from labs.statistics import Interval


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
        seed: seed of the resampling.
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

    A stratum is for instance the runs of one agent in one environment. What was fixed in the plan of the
    experiment, here the number of runs in each stratum, is fixed in the resampling.

    Args:
        strata: arrays ``[runs, ...]``; runs are drawn with replacement.
        statistic: takes such a list, returns a number.
        seed: seed of the resampling.

    Returns:
        The statistic of the data with its interval; ``n`` is the size of the smallest stratum.
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
    """``stratified_interval`` of a whole curve: the statistic, low and high at each of its points.

    The interval is pointwise, not for the curve as a whole.
    """
    rng = np.random.default_rng(seed)
    values = [
        statistic([runs[rng.integers(0, len(runs), len(runs))] for runs in strata])
        for _ in range(resamples)
    ]
    low, high = np.quantile(
        np.asarray(values), [(1 - confidence) / 2, (1 + confidence) / 2], axis=0
    )
    return np.asarray(statistic(list(strata))), low, high


def interquartile_mean(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Mean of the middle half along the first axis: robust, and more efficient than the median.

    A quarter of the values, rounded down, is left out at each end (Agarwal et al., 2021).
    """
    array = np.sort(np.asarray(values, dtype=float), axis=0)
    cut = len(array) // 4
    return array[cut : len(array) - cut].mean(axis=0)


def probability_of_improvement(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> float:
    """Probability that a run of ``first`` beats a run of ``second``; ties count half; mean over strata.

    Mann and Whitney's U over the number of pairs, with the same weight for every stratum (environment)
    (Agarwal et al., 2021).
    """
    shares = [
        np.mean((x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :]))
        for x, y in zip(first, second, strict=True)
    ]
    return float(np.mean(shares))


def performance_profile(strata: Sequence[np.ndarray], thresholds: np.ndarray) -> np.ndarray:
    """Share of runs with a score above each threshold, ``[thresholds]``; mean over strata."""
    shares = [(runs[:, None] > thresholds[None, :]).mean(axis=0) for runs in strata]
    return np.mean(shares, axis=0)
