"""Advantages and targets against their definitions, summed term by term."""

import numpy as np
import pytest

from labs.rl.agents.returns import discounted_sums, generalized_advantages, n_step_targets

GAMMA, LAMBDA = 0.9, 0.8


@pytest.fixture
def rollout() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    shape = (12, 50)
    terminated = generator.random(shape) < 0.15
    return {
        "rewards": generator.normal(size=shape).astype(np.float32),
        "terminated": terminated,
        "truncated": (generator.random(shape) < 0.15) & ~terminated,
    }


def test_advantages_are_the_weighted_sum_of_later_errors(rollout: dict[str, np.ndarray]) -> None:
    generator = np.random.default_rng(1)
    values, next_values = generator.normal(size=(2, 12, 50)).astype(np.float32)
    found = generalized_advantages(
        **rollout, values=values, next_values=next_values, gamma=GAMMA, gae_lambda=LAMBDA
    )
    rewards, terminated, truncated = rollout.values()
    for t in range(12):
        for n in range(50):
            expected, weight = 0.0, 1.0
            for k in range(t, 12):
                bootstrap = 0.0 if terminated[k, n] else GAMMA * next_values[k, n]
                expected += weight * (rewards[k, n] + bootstrap - values[k, n])
                weight *= GAMMA * LAMBDA
                if terminated[k, n] or truncated[k, n]:
                    break
            assert found[t, n] == pytest.approx(expected, abs=1e-5)


def test_lambda_one_is_the_return_minus_the_value() -> None:
    rewards = np.array([[1.0], [2.0], [4.0]], dtype=np.float32)
    never = np.zeros((3, 1), dtype=bool)
    end = np.array([[False], [False], [True]])
    values = np.full((3, 1), 10, dtype=np.float32)
    arguments = {"values": values, "next_values": values, "gamma": 0.5, "gae_lambda": 1.0}
    terminated = generalized_advantages(rewards, terminated=end, truncated=never, **arguments)
    np.testing.assert_allclose(terminated[:, 0], [1 + 1 + 1 - 10, 2 + 2 - 10, 4 - 10])
    truncated = generalized_advantages(rewards, terminated=never, truncated=end, **arguments)
    np.testing.assert_allclose(truncated[:, 0], [3 + 1.25 - 10, 4 + 2.5 - 10, 4 + 5 - 10])


@pytest.mark.parametrize("n", [1, 2, 3, 5, 12, 40])
def test_n_step_targets_count_up_to_an_end(rollout: dict[str, np.ndarray], n: int) -> None:
    targets = n_step_targets(**rollout, gamma=GAMMA, n=n)
    rewards, terminated, truncated = rollout.values()
    for t in range(12):
        for column in range(50):
            total, discount = 0.0, 1.0
            for k in range(t, min(t + n, 12)):
                total += discount * rewards[k, column]
                discount *= GAMMA
                if terminated[k, column] or truncated[k, column]:
                    break
            assert targets.returns[t, column] == pytest.approx(total, abs=1e-5)
            assert targets.last[t, column] == k
            expected = 0.0 if terminated[k, column] else discount
            assert targets.discounts[t, column] == pytest.approx(expected, abs=1e-6)


def test_discounted_sums_go_on_across_segments_and_stop_at_ends() -> None:
    rewards = np.arange(1, 9, dtype=np.float32)[:, None]
    ended = np.zeros((8, 1), dtype=bool)
    ended[4] = True
    whole, last = discounted_sums(rewards, ended, 0.5, np.zeros(1, dtype=np.float32))
    first, middle = discounted_sums(rewards[:3], ended[:3], 0.5, np.zeros(1, dtype=np.float32))
    second, end = discounted_sums(rewards[3:], ended[3:], 0.5, middle)
    np.testing.assert_array_equal(whole, np.concatenate([first, second]))
    np.testing.assert_array_equal(last, end)
    assert whole[2, 0] == 3 + 0.5 * 2 + 0.25 * 1
    assert whole[5, 0] == 6 and whole[6, 0] == 7 + 3
