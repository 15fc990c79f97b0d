"""Segments of several workers as one."""

from __future__ import annotations

import numpy as np
import pytest

from labs.rl.agents.segments import Segment, concatenate
from labs.rl.envs.episodes import Episode


def segment(seed: int, envs: int, version: int = 4) -> Segment:
    rng = np.random.default_rng(seed)
    observations, following = rng.normal(size=(2, 5, envs, 3)).astype(np.float32)
    terminated, truncated = rng.random((2, 5, envs)) < 0.3
    return Segment(
        observations,
        rng.integers(4, size=(5, envs)),
        rng.normal(size=(5, envs)).astype(np.float32),
        terminated,
        truncated,
        following,
        [Episode(seed, rng.normal(), 3, "success")],
        version,
        1.0 + seed,
        9.0 - seed,
    )


def test_environments_lie_side_by_side_and_the_slowest_worker_counts() -> None:
    parts = [segment(0, 2), segment(1, 3), segment(2, 1)]
    whole = concatenate(parts)
    start = 0
    for part in parts:
        columns = slice(start, start + part.rewards.shape[1])
        start = columns.stop
        for found, expected in zip(whole[:6], part[:6], strict=True):
            np.testing.assert_array_equal(found[:, columns], expected)
            assert found.dtype == expected.dtype
    assert whole.rewards.shape == (5, start) and whole.num_steps == 30
    assert [episode.number for episode in whole.episodes] == [0, 1, 2]
    assert (whole.version, whole.environment_seconds, whole.inference_seconds) == (4, 3.0, 9.0)


def test_segments_of_different_versions_are_not_mixed() -> None:
    with pytest.raises(ValueError, match=r"versions \[4, 5\]"):
        concatenate([segment(0, 2), segment(1, 2, version=5)])
