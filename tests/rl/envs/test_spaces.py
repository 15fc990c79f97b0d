"""Between an environment's spaces and an agent's arrays."""

import tracemalloc

import numpy as np
import pytest
from gymnasium import spaces

from labs.rl.envs.spaces import Actions, Observations
from labs.runtime.errors import InputError


def test_the_bounds_of_a_box_are_minus_one_and_one() -> None:
    space = spaces.Box(
        np.array([-2, 100, -np.inf, 0, -3e38], np.float32),
        np.array([3, 400, np.inf, np.inf, 3e38], np.float32),
        dtype=np.float32,
    )
    actions = Actions("any", space)
    given = np.array([[-1, -1, -1, -1, -1], [0.5, 0.5, 0.5, 0.5, 0.5], [9, 9, 9, 9, 9]])
    expected = [[-2, 100, -1, 0, -1], [1.75, 325, 0.5, 0.5, 0.5], [3, 400, 9, 9, 9]]
    native = actions.native(given)
    np.testing.assert_array_equal(native, np.array(expected, np.float32))
    assert native.dtype == np.float32 and (actions.size, actions.discrete) == (5, False)


def test_whole_numbers_are_rounded_and_every_one_is_reached() -> None:
    actions = Actions("any", spaces.Box(-10, 10, (1,), np.int64))
    given = np.linspace(-1.2, 1.2, 500)[:, None]
    native = actions.native(given)
    assert native.dtype == np.int64
    assert set(native[:, 0]) == set(range(-10, 11))
    np.testing.assert_array_equal(native[:, 0], np.clip(np.round(10 * given[:, 0]), -10, 10))
    far = Actions("any", spaces.Box(200, 255, (2,), np.uint8))
    np.testing.assert_array_equal(far.native(np.array([[-5.0, 5.0]])), [[200, 255]])


def test_discrete_actions_are_numpy_s_integers_from_the_space_s_start() -> None:
    native = Actions("any", spaces.Discrete(3, start=-7)).native(np.array([0, 2], np.int32))
    assert native.dtype == np.int64 and native.tolist() == [-7, -5]


def test_many_discrete_observations_take_no_square_of_memory() -> None:
    tracemalloc.start()
    observations = Observations("any", spaces.Discrete(1_000_000, start=3))
    rows = observations.encode([3, 1_000_002])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6  # two rows of 4 MB
    assert rows.shape == (2, 1_000_000) and rows.dtype == np.float32
    assert rows.sum() == 2 and rows[0, 0] == rows[1, -1] == 1


@pytest.mark.parametrize("bad", [2, 8])
def test_a_discrete_observation_out_of_range_is_refused(bad: int) -> None:
    observations = Observations("mine/Thing-v0", spaces.Discrete(5, start=3))
    with pytest.raises(InputError, match=rf"mine/Thing-v0 .*observation {bad}: .*from 3 to 7"):
        observations.encode([4, bad])
