"""Bootstrap intervals and the statistics of rliable, against hand-computed values."""

from __future__ import annotations

import numpy as np
import pytest

from labs.bootstrap import (
    bootstrap_interval,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_band,
    stratified_interval,
)


def test_bootstrap_interval_of_a_mean_is_close_to_the_normal_one_and_seeded() -> None:
    values = np.random.default_rng(1).normal(5.0, 1.0, 400)
    interval = bootstrap_interval(lambda i: values[i].mean(), 400, seed=3)
    again = bootstrap_interval(lambda i: values[i].mean(), 400, seed=3)
    half = 1.96 * values.std(ddof=1) / 20
    assert interval == again
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.02)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.02)


FIRST = np.array(  # [runs, environments]
    [[67, 76, 67], [34, 78, 69], [49, 72, 67], [66, 61, 71], [45, 57, 50]]
)
SECOND = np.array(
    [[46, 24, 28], [-33, 94, 74], [30, 63, 48], [23, 69, 31], [30, 16, 54], [37, 56, 22]]
)
STRATA = [list(scores.T / 100) for scores in (FIRST, SECOND)]


def mean_of_all(strata: list[np.ndarray]) -> float:
    return float(interquartile_mean(np.concatenate(strata)))


def test_interquartile_mean_by_hand() -> None:
    assert interquartile_mean([9.0, 1.0, 2.0, 4.0, 100.0]) == 5.0  # of 2, 4 and 9
    assert interquartile_mean([3.0, 1.0, 100.0, 2.0]) == 2.5  # of 2 and 3
    assert interquartile_mean([1.0, 5.0]) == 3.0  # a quarter of two is none
    columns = np.array([[0.0, 9], [1, 1], [2, 2], [30, 4], [4, 100]])
    np.testing.assert_allclose(interquartile_mean(columns), [7 / 3, 5.0])


def test_probability_of_improvement_by_hand() -> None:
    first, second = [np.array([1.0, 2.0, 3.0])], [np.array([2.0, 0.0])]
    # 1>0, 2=2, 2>0, 3>2, 3>0 of six pairs
    assert probability_of_improvement(first, second) == pytest.approx(4.5 / 6)
    assert probability_of_improvement(second, first) == pytest.approx(1.5 / 6)
    unequal = [np.array([0.0]), np.array([1.0])]
    assert probability_of_improvement(first * 2, unequal) == pytest.approx((1 + 2.5 / 3) / 2)


def test_performance_profile_by_hand() -> None:
    strata = [np.array([0.0, 0.5, 1.0, 1.0]), np.array([0.5, 0.5])]
    np.testing.assert_allclose(
        performance_profile(strata, np.array([-1.0, 0.0, 0.5, 1.0])), [1, 0.875, 0.25, 0]
    )


def test_rliable_says_the_same() -> None:
    """Its numbers were printed by rliable 1.2.0 with 50,000, 5,000 and 20,000 resamples.

    It is not among the dependencies: it needs arch 7.2, which cannot be imported with pandas 3.
    """
    for strata, mean, ends in zip(
        STRATA,
        (0.63888889, 0.384),
        ((0.57444444, 0.68777778), (0.283, 0.496)),
        strict=True,
    ):
        ours = stratified_interval(strata, mean_of_all, seed=0, resamples=20_000)
        assert ours.estimate == pytest.approx(mean)
        assert (ours.low, ours.high) == pytest.approx(ends, abs=0.005)
        assert ours.n == len(strata[0])
    improvement = stratified_interval(
        [*STRATA[0], *STRATA[1]],
        lambda drawn: probability_of_improvement(drawn[:3], drawn[3:]),
        seed=0,
        resamples=5_000,
    )
    assert improvement.estimate == pytest.approx(0.8)
    assert (improvement.low, improvement.high) == pytest.approx((0.633333, 0.944444), abs=0.012)
    thresholds = np.array([0.2, 0.4, 0.6, 0.8])
    share, low, high = stratified_band(
        STRATA[1], lambda drawn: performance_profile(drawn, thresholds), seed=0, resamples=20_000
    )
    np.testing.assert_allclose(share, np.array([16, 8, 4, 1]) / 18)
    np.testing.assert_allclose(low, np.array([13, 4, 1, 0]) / 18, atol=1e-9)
    np.testing.assert_allclose(high, np.array([18, 12, 7, 3]) / 18, atol=1e-9)


def test_strata_are_not_mixed() -> None:
    # Two environments of very different difficulty: mixing them would widen the interval.
    strata = [np.array([0.0, 0.01, 0.02]), np.array([1.0, 1.01, 1.02])]
    interval = stratified_interval(strata, lambda drawn: float(np.concatenate(drawn).mean()), 0)
    assert interval.high - interval.low < 0.02
    again = stratified_interval(strata, lambda drawn: float(np.concatenate(drawn).mean()), 0)
    assert interval == again
