"""The vector CartPole against gymnasium's single one."""

import gymnasium
import numpy as np
import pytest

from labs.rl.envs.cartpole import CartPoleVectorEnv


def test_equals_the_single_environment_for_the_same_seeds_and_actions() -> None:
    copies, steps = 5, 300
    vector = CartPoleVectorEnv(copies, max_episode_steps=60)
    singles = [gymnasium.make("CartPole-v1", max_episode_steps=60) for _ in range(copies)]
    first, _ = vector.reset(seed=[10 + i for i in range(copies)])
    np.testing.assert_array_equal(first, [e.reset(seed=10 + i)[0] for i, e in enumerate(singles)])
    generator = np.random.default_rng(0)
    truncations = terminations = 0
    for _ in range(steps):
        # Pushing against the fall keeps some carts up until the time limit.
        actions = np.where(generator.random(copies) < 0.8, vector._state[3] > 0, 0).astype(np.int64)
        observations, rewards, terminated, truncated, _ = vector.step(actions)
        for i, env in enumerate(singles):
            expected = env.step(int(actions[i]))
            np.testing.assert_allclose(observations[i], expected[0], atol=1e-5)
            assert (rewards[i], terminated[i], truncated[i]) == expected[1:4]
        ended = terminated | truncated
        truncations += truncated.sum()
        terminations += terminated.sum()
        if ended.any():
            restarted, _ = vector.reset(seed=[None] * copies, options={"reset_mask": ended})
            for i in np.flatnonzero(ended):
                np.testing.assert_array_equal(restarted[i], singles[i].reset()[0])
    assert truncations > 3 and terminations > 3


def test_a_saved_state_continues_exactly() -> None:
    first, second = CartPoleVectorEnv(3, 500), CartPoleVectorEnv(3, 500)
    first.reset(seed=1)
    for _ in range(5):
        first.step(np.array([0, 1, 0]))
    np.testing.assert_array_equal(second.set_state(first.get_state()), first._state.T.astype("f4"))
    mask = {"reset_mask": np.array([True, False, False])}
    for env in (first, second):
        env.reset(options=mask)
    np.testing.assert_array_equal(first._state, second._state)


@pytest.mark.parametrize("seed", [0, [0, 1, 2]])
def test_seeds_are_gymnasiums(seed: object) -> None:
    env = CartPoleVectorEnv(3, 500)
    single = gymnasium.make("CartPole-v1")
    observations, _ = env.reset(seed=seed)
    np.testing.assert_array_equal(observations, [single.reset(seed=i)[0] for i in range(3)])
