"""Intervals and tests over seeds, episodes and test items: pure functions, used by every experiment.

Equal scores of all seeds do not mean that there is no uncertainty: three seeds with the same score on
359 test images prove nothing. Without variance there is no interval and no verdict, unless the number of
test items is known; then the binomial error of the items is a lower bound of the interval's width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import special  # the import of scipy.stats takes longer than that of torch

MIN_SEEDS = 3
"""With fewer values on a side there is no verdict."""
MAX_SEEDS = 1000
"""Largest result of ``seeds_to_tell``."""

_SHARES = ("accuracy", "success_rate", "precision", "recall", "f1")
"""Ends of the names of metrics that are shares."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; ``low`` and ``high`` are NaN if there is none."""

    estimate: float
    low: float
    high: float
    n: int
    """Number of independent values (seeds, episodes, test items)."""

    @property
    def excludes_zero(self) -> bool:
        """Whether the sign of the quantity is significant."""
        return self.low > 0 or self.high < 0

    def within(self, least: float, most: float) -> Interval:
        """The interval clipped to a range, such as 0 to 1 for an accuracy."""
        low, high = (max(least, min(most, end)) for end in (self.low, self.high))
        return self if math.isnan(self.low) else replace(self, low=low, high=high)

    def scaled(self, factor: float) -> Interval:
        """The interval in another unit, for instance in percentage points; below 0 the ends change places."""
        low, high = (self.low, self.high) if factor > 0 else (self.high, self.low)
        return Interval(self.estimate * factor, low * factor, high * factor, self.n)

    def format(self, digits: int = 3, scale: float = 1.0) -> str:
        """``0.934 [0.921, 0.947]``; only the estimate if there is no interval."""
        text = f"{self.estimate * scale:.{digits}f}"
        if math.isnan(self.low):
            return text
        return f"{text} [{self.low * scale:.{digits}f}, {self.high * scale:.{digits}f}]"

    def shown(self, digits: int = 3) -> str:
        """The same with ``digits`` decimals between 0.1 and 10, fewer for larger numbers, more for smaller.

        A loss of 0.00012 is 0.000120, and a return of 31245.6 is 31246.
        """
        sizes = [abs(value) for value in (self.estimate, self.low, self.high)]
        largest = max((size for size in sizes if 0 < size < math.inf), default=1.0)
        exponent = math.floor(math.log10(largest))
        if exponent < 0:  # 0.12 needs as many decimals as 1.2
            exponent += 1
        return self.format(min(max(digits - exponent, 0), 12))

    def __str__(self) -> str:
        return self.format()


def _finite(values: Sequence[float] | np.ndarray) -> np.ndarray:
    array = np.asarray(values, dtype=float).ravel()
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"an interval needs one or more finite values, not {array.tolist()}")
    return array


def mean_interval(values: Sequence[float] | np.ndarray, confidence: float = 0.95) -> Interval:
    """Student's t interval of the mean of independent values, for instance one per seed.

    There is no interval for a single value or for values that are all equal.

    Raises:
        ValueError: no values, or one of them is not finite.
    """
    array = _finite(values)
    mean, low, high = mean_band(array[:, None], confidence)
    return Interval(float(mean[0]), float(low[0]), float(high[0]), array.size)


def value_range(metric: str, values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """What the mean of a metric can be: 0 to 1 for a share, which its name says, else any number.

    An interval of a mean (Student's t) may reach beyond; to cut it off there loses no coverage. Values
    outside 0 to 1, for instance in percent, are not taken for shares.
    """
    share = metric.endswith(_SHARES) and np.size(values) > 0
    return (
        (0.0, 1.0)
        if share and np.min(values) >= 0 and np.max(values) <= 1
        else (-math.inf, math.inf)
    )


def mean_band(
    values: np.ndarray, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``mean_interval`` of a whole curve: values ``[n, t]`` to mean, low and high ``[t]`` each.

    The interval is pointwise, not for the curve as a whole.
    """
    n, mean = len(values), values.mean(axis=0)
    if n < 2:
        none = np.full_like(mean, math.nan, dtype=float)
        return mean, none, none
    error = np.sqrt(_variance(values) / n)
    error[error == 0] = math.nan
    half = special.stdtrit(n - 1, (1 + confidence) / 2) * error
    return mean, mean - half, mean + half


def geometric_band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``geometric_interval`` of a whole curve: values ``[n, t]`` to mean, low and high ``[t]`` each.

    Raises:
        ValueError: one of the values is not positive.
    """
    if np.min(values, initial=math.inf) <= 0:
        raise ValueError(f"a geometric mean needs positive values, not {np.min(values)}")
    mean, low, high = (np.exp(part) for part in mean_band(np.log(values)))
    return mean, low, high


def _variance(values: np.ndarray) -> np.ndarray:
    """Sample variance along the first axis; exactly 0 if the values differ only by rounding."""
    tied = np.ptp(values, axis=0) <= 1e-12 * np.abs(values).max(axis=0)
    return np.where(tied, 0.0, values.var(axis=0, ddof=1))


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
    items: int | None = None,
) -> Interval:
    """Welch's interval of ``mean(first) - mean(second)``; ``n`` is the smaller sample's size.

    The variances may differ (Welch, 1947). There is no interval with fewer than two values on a side, or
    without variance on both sides.

    Args:
        first: independent values, for instance one per seed.
        second: the same for the other side.
        confidence: of the interval.
        items: number of test items, if the values are proportions of them, such as accuracies. The
            interval is then at least as wide as the binomial one, since with other items the
            proportions would differ, even if all seeds agree.

    Raises:
        ValueError: no values on a side, or one of them is not finite.
    """
    a, b = _finite(first), _finite(second)
    difference = float(a.mean() - b.mean())
    n = min(a.size, b.size)
    if n < 2:
        return Interval(difference, math.nan, math.nan, n)
    errors = np.array([_variance(a) / a.size, _variance(b) / b.size])
    half = 0.0
    if errors.any():
        freedom = errors.sum() ** 2 / (errors**2 / [a.size - 1, b.size - 1]).sum()
        half = float(special.stdtrit(freedom, (1 + confidence) / 2) * math.sqrt(errors.sum()))
    if items is not None:
        floor = math.sqrt(_binomial_variance(np.array([a.mean(), b.mean()]), items).sum())
        half = max(half, float(special.ndtri((1 + confidence) / 2)) * floor)
    if half == 0:
        return Interval(difference, math.nan, math.nan, n)
    return Interval(difference, difference - half, difference + half, n)


def _binomial_variance(proportions: np.ndarray, items: int) -> np.ndarray:
    """Variance of proportions of ``items`` test items, above 0 also at 0 and 1 (Agresti and Coull, 1998)."""
    adjusted = (proportions * items + 2) / (items + 4)
    return adjusted * (1 - adjusted) / items


def tested_variances(samples: Sequence[np.ndarray]) -> np.ndarray:
    """The variances by which ``welch_p_values`` tests samples, ``[k]``.

    With three samples or more, each is at least the median of all: among many configs there are some
    whose few seeds agree by chance, especially if the scores are bimodal (some runs learned and others
    did not).
    """
    variances = np.array([_variance(a) if a.size > 1 else 0.0 for a in samples], dtype=float)
    return np.maximum(variances, np.median(variances)) if len(samples) > 2 else variances


def welch_p_values(samples: Sequence[np.ndarray], items: int | None = None) -> np.ndarray:
    """Two-sided p-values that the means of two samples are equal, for all pairs, ``[k, k]``.

    Welch's test with ``tested_variances``.

    Args:
        samples: ``k`` arrays of independent values, for instance the scores of a config's seeds.
        items: as for ``difference_interval``; p-values are then at least those of the binomial test.

    Returns:
        The p-values; NaN on the diagonal, with fewer than ``MIN_SEEDS`` values on a side, or without
        any variance.
    """
    arrays = [_finite(sample) for sample in samples]
    sizes = np.array([array.size for array in arrays])
    means = np.array([array.mean() for array in arrays])
    errors = tested_variances(arrays) / sizes
    both = errors[:, None] + errors[None, :]
    distance = np.abs(means[:, None] - means[None, :])
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = errors**2 / (sizes - 1)
        freedom = both**2 / (parts[:, None] + parts[None, :])
        p_values = 2 * special.stdtr(freedom, -distance / np.sqrt(both))
    p_values[both == 0] = math.nan
    if items is not None:
        floor = _binomial_variance(means, items)
        binomial = 2 * special.ndtr(-distance / np.sqrt(floor[:, None] + floor[None, :]))
        p_values = np.fmax(p_values, binomial)
    few = sizes < MIN_SEEDS
    p_values[few[:, None] | few[None, :] | np.eye(len(arrays), dtype=bool)] = math.nan
    return p_values


def holm(p_values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Holm's (1979) adjusted p-values of a family of tests, ``[m]``.

    If the tests with a value of at most alpha are rejected, the probability of any false rejection is at
    most alpha, for any dependence between the tests.

    Args:
        p_values: NaN (no verdict) stays NaN, and counts as a member of the family.
        weights: importance of each test; ``None`` for equal weights.
    """
    p = np.where(np.isnan(p_values), 1.0, p_values)
    shares = np.ones_like(p) if weights is None else np.asarray(weights, dtype=float)
    order = np.argsort(p / shares, kind="stable")
    left = np.cumsum(shares[order][::-1])[::-1]  # weight of this test and of all later ones
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate((p / shares)[order] * left))
    return np.where(np.isnan(p_values), math.nan, adjusted)


def seeds_to_tell(
    first: np.ndarray,
    second: np.ndarray,
    alpha: float = 0.05,
    power: float = 0.8,
    variances: Sequence[float] | np.ndarray | None = None,
) -> int | None:
    """Number of values per side that would show a difference, if it and the variances are as observed.

    The smallest number at which Welch's test at level ``alpha`` finds the difference with the given
    power (a noncentral t distribution, approximated by a shifted one). ``None`` above ``MAX_SEEDS``,
    without a difference, without variance, or with fewer than two values on a side. ``variances`` are
    the two that the test uses (``tested_variances``), if they are not those of the values.
    """
    a, b = _finite(first), _finite(second)
    distance = abs(float(a.mean() - b.mean()))
    if min(a.size, b.size) < 2 or distance == 0:
        return None
    seen = np.array([_variance(a), _variance(b)])
    va, vb = seen if variances is None else np.asarray(variances)
    if va + vb == 0:
        return None
    n = np.arange(MIN_SEEDS, MAX_SEEDS + 1)
    freedom = (n - 1) * (va + vb) ** 2 / (va**2 + vb**2)
    required = special.stdtrit(freedom, 1 - alpha / 2) * np.sqrt((va + vb) / n)
    with np.errstate(divide="ignore"):
        shift = (distance - required) / np.sqrt(seen.sum() / n)
    found = np.flatnonzero(special.stdtr(freedom, shift) >= power)
    return int(n[found[0]]) if found.size else None


def proportion_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion (Wilson, 1927), which is valid near 0 and 1.

    Raises:
        ValueError: no trials, or successes outside 0 to trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} successes of {trials} trials is not a proportion")
    z2 = float(special.ndtri((1 + confidence) / 2)) ** 2
    share = successes / trials
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = math.sqrt(z2 * (share * (1 - share) / trials + z2 / (4 * trials**2))) / (1 + z2 / trials)
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half), trials)
