"""The replay against a list that forgets."""

from collections import deque

import numpy as np
import pytest

from labs.rl.agents.replay import Replay, Transitions


def rows(numbers: range) -> Transitions:
    values = np.array(numbers, dtype=np.float32)
    observations = np.stack([values, -values], axis=1)
    return Transitions(observations, observations + 0.5, values.astype(np.int64), values, values)


@pytest.mark.parametrize("pieces", [[3, 3, 3, 3], [7, 7, 7], [10, 1], [25], [4, 30, 2]])
def test_keeps_the_newest_rows_whatever_the_pieces(pieces: list[int]) -> None:
    replay, expected, start = Replay(10, (2,), seed=0), deque(maxlen=10), 0
    for piece in pieces:
        replay.add(rows(range(start, start + piece)))
        expected.extend(range(start, start + piece))
        start += piece
        found = replay.gather(np.arange(replay.size))
        assert sorted(found.actions.tolist()) == list(expected)
        np.testing.assert_array_equal(found.observations[:, 0], found.actions)
        np.testing.assert_array_equal(found.next_observations[:, 1], 0.5 - found.actions)
        np.testing.assert_array_equal(found.returns, found.actions)


def test_draws_every_row_equally_often() -> None:
    replay = Replay(50, (2,), seed=0)
    replay.add(rows(range(80)))
    drawn = replay.gather(replay.sample(1000, 100).reshape(-1)).actions
    counts = np.bincount(drawn, minlength=80)
    assert (counts[:30] == 0).all()
    # Pearson's statistic with 49 degrees of freedom: 85.4 is exceeded once in a thousand times.
    assert ((counts[30:] - 2000) ** 2 / 2000).sum() < 85.4


def test_draws_only_what_is_there() -> None:
    replay = Replay(50, (2,), seed=0)
    with pytest.raises(ValueError, match="empty"):
        replay.sample(1, 4)
    replay.add(rows(range(3)))
    assert set(replay.sample(10, 10).reshape(-1).tolist()) == {0, 1, 2}


def test_images_take_a_byte_per_pixel_and_vectors_keep_their_digits() -> None:
    for shape, dtype in (((2, 5, 4), np.uint8), ((3,), np.float32)):
        replay = Replay(6, shape, seed=0)
        values = np.random.default_rng(0).uniform(0, 255, (2, 4, *shape)).astype(dtype)
        replay.add(Transitions(*values, *rows(range(4))[2:]))
        found = replay.gather(np.arange(4))
        assert found.observations.dtype == found.next_observations.dtype == dtype
        np.testing.assert_array_equal(found.observations, values[0])
        np.testing.assert_array_equal(found.next_observations, values[1])


def test_a_saved_state_continues_exactly() -> None:
    first, second = Replay(10, (2,), seed=0), Replay(10, (2,), seed=5)
    first.add(rows(range(14)))
    first.sample(3, 4)
    second.load(first.state())
    for replay in (first, second):
        replay.add(rows(range(20, 23)))
    indices = first.sample(2, 6)
    np.testing.assert_array_equal(indices, second.sample(2, 6))
    for one, other in zip(first.gather(indices[0]), second.gather(indices[0]), strict=True):
        np.testing.assert_array_equal(one, other)
