"""Intervals against hand-computed values."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from scipy import stats

from labs.statistics import (
    Interval,
    difference_interval,
    geometric_band,
    geometric_interval,
    holm,
    mean_band,
    mean_interval,
    proportion_interval,
    seeds_to_tell,
    welch_p_values,
)


def test_geometric_interval_by_hand() -> None:
    interval = geometric_interval([0.1, 10.0])
    half = 12.706204736 * math.log(100) / 2  # t(0.975, 1); the standard error of two is half apart
    assert interval.estimate == pytest.approx(1.0)
    assert interval.high == pytest.approx(math.exp(half))
    assert interval.low == pytest.approx(math.exp(-half))
    with pytest.raises(ValueError, match="positive values, not 0.0"):
        geometric_interval([1.0, 0.0])


def test_geometric_band_is_the_interval_at_each_point() -> None:
    values = np.random.default_rng(5).lognormal(-3, 2, (4, 6))
    mean, low, high = geometric_band(values)
    for place in range(6):
        expected = geometric_interval(values[:, place])
        found = (mean[place], low[place], high[place])
        assert found == pytest.approx((expected.estimate, expected.low, expected.high))
    assert (low > 0).all()
    with pytest.raises(ValueError, match="positive"):
        geometric_band(np.array([[1.0, 0.0], [1.0, 2.0]]))


def test_mean_interval_by_hand() -> None:
    interval = mean_interval([1.0, 2.0, 3.0, 4.0])
    # t(0.975, 3) = 3.182446, standard error sqrt(5/3)/2
    half = 3.182446305 * math.sqrt(5 / 3) / 2
    assert interval.estimate == 2.5
    assert interval.low == pytest.approx(2.5 - half)
    assert interval.high == pytest.approx(2.5 + half)
    assert interval.n == 4


def test_one_value_has_no_interval() -> None:
    interval = mean_interval([0.7])
    assert interval.estimate == 0.7
    assert math.isnan(interval.low)
    assert not interval.excludes_zero
    assert str(interval) == "0.700"


def test_an_interval_within_a_range() -> None:
    wide = mean_interval([0.9, 1.0])
    assert wide.high > 1
    assert wide.within(0, 1).high == 1
    assert wide.within(0, 1).low == wide.low
    assert wide.within(0, 1).estimate == pytest.approx(0.95)
    assert math.isnan(mean_interval([0.9]).within(0, 1).low)


def test_mean_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        interval = mean_interval(rng.normal(1.0, 2.0, 4))
        inside += interval.low <= 1.0 <= interval.high
    assert 0.935 < inside / 2000 < 0.965


def test_difference_interval_by_hand() -> None:
    # Variances 1 and 4 of three values each: Welch's degrees of freedom are 2.941176.
    interval = difference_interval([9.0, 10.0, 11.0], [3.0, 5.0, 7.0])
    standard_error = math.sqrt(1 / 3 + 4 / 3)
    freedom = (5 / 3) ** 2 / ((1 / 3) ** 2 / 2 + (4 / 3) ** 2 / 2)
    assert freedom == pytest.approx(2.941176, rel=1e-5)
    assert interval.estimate == 5.0
    assert interval.high - interval.low == pytest.approx(2 * 3.2181 * standard_error, rel=1e-3)
    assert interval.excludes_zero
    assert math.isnan(difference_interval([1.0], [2.0, 3.0]).low)


@pytest.mark.parametrize("shift", [0.0, 1e-15])  # three equal numbers may differ by rounding
def test_no_spread_is_no_interval_and_no_verdict(shift: float) -> None:
    tied = np.array([0.9972, 0.9972 + shift, 0.9972])
    assert math.isnan(mean_interval(tied).low)
    interval = difference_interval([1.0, 1.0, 1.0], tied)
    assert math.isnan(interval.low) and not interval.excludes_zero
    assert interval.estimate == pytest.approx(0.0028)
    assert np.isnan(welch_p_values([np.ones(3), tied])).all()
    mean, low, high = mean_band(np.array([[1.0, 2.0], [1.0, 4.0]]))
    assert math.isnan(low[0]) and math.isnan(high[0])
    assert (low[1] + high[1]) / 2 == pytest.approx(mean[1])


def test_the_test_items_own_error_is_the_least_that_an_interval_allows_for() -> None:
    interval = difference_interval([1.0, 1.0, 1.0], [0.9972] * 3, items=359)
    adjusted = (np.array([1.0, 0.9972]) * 359 + 2) / 363
    half = 1.959963985 * math.sqrt((adjusted * (1 - adjusted) / 359).sum())
    assert interval.high - interval.estimate == pytest.approx(half)
    assert not interval.excludes_zero
    assert difference_interval([1.0, 1.0, 1.0], [0.9] * 3, items=359).excludes_zero
    wide = [0.9, 0.7, 0.5], [0.2, 0.4, 0.1]  # here the seeds vary more than the items
    assert difference_interval(*wide, items=359) == difference_interval(*wide)
    floored = welch_p_values([np.array(side) for side in ([1.0, 0.9999, 1.0], [0.99] * 3)], 359)
    assert 0.05 < floored[0, 1] < 0.2


def test_welch_p_values_are_scipy_s() -> None:
    rng = np.random.default_rng(11)
    for _ in range(20):
        first, second = rng.normal(0, 1, rng.integers(3, 8)), rng.normal(1, 4, rng.integers(3, 8))
        ours = welch_p_values([first, second])
        theirs = stats.ttest_ind(first, second, equal_var=False).pvalue
        assert ours[0, 1] == ours[1, 0] == pytest.approx(theirs)
    assert np.isnan(welch_p_values([first, second[:2]])).all()


def test_with_three_samples_a_variance_is_at_least_the_median() -> None:
    agreed = np.array([0.1, 0.1, 0.10001])  # by chance
    others = np.array([0.0, 0.5, 1.0]), np.array([0.3, 0.9, 1.5])
    matrix = welch_p_values([agreed, *others])
    deviation = np.std(others[0], ddof=1) / np.std(agreed, ddof=1)
    spread = agreed.mean() + (agreed - agreed.mean()) * deviation
    expected = stats.ttest_ind(spread, others[1], equal_var=False).pvalue
    assert matrix[0, 2] == pytest.approx(expected)
    assert matrix[1, 2] == pytest.approx(stats.ttest_ind(*others, equal_var=False).pvalue)


def test_holm_by_hand() -> None:
    adjusted = holm(np.array([0.02, 0.01, 0.5, math.nan]))
    np.testing.assert_allclose(adjusted, [0.06, 0.04, 1.0, math.nan])
    # Smaller p-values never get a larger adjusted one.
    np.testing.assert_allclose(holm(np.array([0.01, 0.011, 0.03])), [0.03, 0.03, 0.03])
    # Weights: p / weight decides the order; 0.03 / 3 comes first, with 4 / 3 of the plain level.
    np.testing.assert_allclose(holm(np.array([0.03, 0.02]), np.array([3.0, 1.0])), [0.04, 0.04])


def test_seeds_needed_agrees_with_the_exact_power() -> None:
    rng = np.random.default_rng(2)
    for distance in (0.7, 1.0, 2.0):
        first = rng.normal(size=8)
        second = (first - first.mean()) + first.mean() + distance * first.std(ddof=1)
        needed = seeds_to_tell(first, second)
        assert needed is not None

        def power(n: int, effect: float = distance) -> float:
            """Of the two-sided t test at 5% for equal variances, from the noncentral t."""
            critical = stats.t.ppf(0.975, 2 * n - 2)
            return float(stats.nct.sf(critical, 2 * n - 2, effect * math.sqrt(n / 2)))

        exact = next(n for n in range(3, 500) if power(n) >= 0.8)
        assert abs(needed - exact) <= 1
    assert seeds_to_tell(np.ones(3), np.zeros(3)) is None
    assert seeds_to_tell(first, first) is None
    assert seeds_to_tell(first, first + 1e-4) is None


def test_proportion_interval_is_wilson_s() -> None:
    interval = proportion_interval(10, 10)
    z = 1.959963985
    assert interval.low == pytest.approx(10 / (10 + z * z))
    assert interval.high == pytest.approx(1.0)
    for successes, trials in ((0, 7), (3, 8), (497, 500)):
        ours = proportion_interval(successes, trials)
        theirs = stats.binomtest(successes, trials).proportion_ci(method="wilson")
        assert (ours.low, ours.high) == pytest.approx(tuple(theirs))
    with pytest.raises(ValueError, match="not a proportion"):
        proportion_interval(3, 2)


@pytest.mark.parametrize("values", [[], [1.0, math.nan]])
def test_bad_values(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite"):
        mean_interval(values)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.934, 0.9214, 0.9466), "0.934 [0.921, 0.947]"),
        ((9.5, -0.25, 19.25), "9.50 [-0.25, 19.25]"),
        ((0.00012, 0.00011, 0.00013), "0.000120 [0.000110, 0.000130]"),
        ((0.08, 0.0601, 0.0999), "0.0800 [0.0601, 0.0999]"),
        ((1.0, 1.0, 1.0), "1.000 [1.000, 1.000]"),
        ((487.25, 460.06, 514.44), "487.2 [460.1, 514.4]"),
        ((-31245.6, -32000.0, -30000.4), "-31246 [-32000, -30000]"),
        ((0.0, 0.0, 0.0), "0.000 [0.000, 0.000]"),
        ((3e-20, math.nan, math.nan), "0.000000000000"),
        ((0.05, math.nan, math.nan), "0.0500"),
        ((math.inf, math.nan, math.nan), "inf"),
    ],
)
def test_an_interval_is_shown_with_as_many_digits_as_its_size_needs(
    numbers: tuple[float, float, float], text: str
) -> None:
    assert Interval(*numbers, n=3).shown() == text


def test_shown_numbers_are_within_half_a_percent() -> None:
    random = np.random.default_rng(3)
    for _ in range(200):
        low, estimate, high = np.sort(random.normal(size=3)) * 10 ** random.uniform(-7, 7)
        told = re.findall(r"-?[\d.]+", Interval(estimate, low, high, n=3).shown())
        error = np.abs(np.array(told, float) - [estimate, low, high]).max()
        assert error <= 5.01e-3 * max(abs(low), abs(high)) and len(max(told, key=len)) <= 12


def test_an_interval_in_percent() -> None:
    assert Interval(0.9341, 0.9214, 0.9466, n=3).format(1, scale=100) == "93.4 [92.1, 94.7]"


def test_a_difference_the_other_way_round() -> None:
    there = Interval(0.17, 0.03, 0.31, n=5)
    assert there.scaled(-100) == Interval(-17.0, -31.0, -3.0, n=5)
    assert there.scaled(10) == Interval(pytest.approx(1.7), pytest.approx(0.3), 3.1, n=5)
