"""What collectors write down, against single environments that take the same actions. Without Ray."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from labs.rl.agents.policies import Policy, PolicySpec
from labs.rl.agents.segments import Segment
from labs.rl.envs.settings import EnvSettings
from labs.rl.rollouts.collector import Collector, CollectorSpec
from labs.rl.rollouts.workers import InProcess

T, N = 40, 3


class Walk(gymnasium.Env):
    """Steps of random length in the direction of the action; may end at any of them."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.place = self.np_random.normal(size=2).astype(np.float32)
        return self.place, {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        step = (action - 1) * self.np_random.random(2)
        self.place = (self.place + step).astype(np.float32)
        reward = float(self.np_random.normal(0, 5))
        return self.place, reward, bool(self.np_random.random() < 0.1), False, {}


SPEC = CollectorSpec(
    EnvSettings("test/Walk-v0"), N, 1, T, PolicySpec((2,), 3, (8,), "tanh", "values"), seed=5
)
PARAMETERS = np.random.default_rng(0).normal(size=(2, 2 * 8 + 8 + 8 * 3 + 3)).astype(np.float32)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    gymnasium.register("test/Walk-v0", Walk, max_episode_steps=8)
    yield
    del gymnasium.registry["test/Walk-v0"]


def equal(one: Segment, other: Segment) -> bool:
    return one[6:8] == other[6:8] and all(map(np.array_equal, one[:6], other[:6]))


def test_two_segments_are_what_each_copy_does_alone() -> None:
    """With the copies' own seeds, and the actions that were written down."""
    collector = Collector(SPEC, index=2)
    parts = [collector.collect(PARAMETERS[k], version=6 + k) for k in range(2)]
    assert [part.version for part in parts] == [6, 7]
    found = [np.concatenate(columns) for columns in zip(*(part[:6] for part in parts), strict=True)]
    observations, actions, rewards, terminated, truncated, following = found
    env_seed = np.random.SeedSequence((SPEC.seed, 2, 0)).generate_state(2)[0]
    ended: list[tuple[float, int]] = []
    for copy, seed in enumerate(np.random.SeedSequence(int(env_seed)).generate_state(N)):
        env = gymnasium.make("test/Walk-v0")
        observation, _ = env.reset(seed=int(seed))
        total, length = 0.0, 0
        for t in range(2 * T):
            np.testing.assert_array_equal(observations[t, copy], observation)
            observation, reward, is_terminal, is_cut, _ = env.step(actions[t, copy])
            np.testing.assert_array_equal(following[t, copy], observation)
            assert rewards[t, copy] == np.float32(reward)
            assert terminated[t, copy] == is_terminal
            assert truncated[t, copy] == (is_cut and not is_terminal)
            total, length = total + float(reward), length + 1
            if is_terminal or is_cut:
                ended.append((total, length))
                total, length = 0.0, 0
                observation, _ = env.reset()
    assert min(terminated.sum(), truncated.sum()) > 3
    episodes = sorted((e.total_reward, e.length) for part in parts for e in part.episodes)
    np.testing.assert_allclose(episodes, sorted(ended), rtol=1e-6)


def test_actions_are_chosen_on_what_is_written_down_with_the_parameters_given() -> None:
    collector = Collector(SPEC, index=0)
    for version in (0, 1):
        segment = collector.collect(PARAMETERS[version], version)
        choices = []
        for parameters in PARAMETERS:
            policy = Policy(SPEC.policy)
            policy.load(parameters)
            choices.append(policy.act(segment.observations.reshape(T * N, 2)).reshape(T, N))
        np.testing.assert_array_equal(segment.actions, choices[version])
        assert (choices[0] != choices[1]).mean() > 0.2
    explored = collector.collect(PARAMETERS[0], 2, epsilon=0.9)
    policy.load(PARAMETERS[0])
    best = policy.act(explored.observations.reshape(T * N, 2)).reshape(T, N)
    # two thirds of nine tenths are another action than the best: five standard errors around it
    assert abs((explored.actions != best).mean() - 0.6) < 5 * (0.24 / (T * N)) ** 0.5


def test_every_copy_collector_replacement_and_run_has_randomness_of_its_own() -> None:
    same, *others = (
        Collector(dataclasses.replace(SPEC, seed=seed), *place).collect(PARAMETERS[0], 0, 1.0)
        for seed, place in ((5, (0,)), (5, (0, 0)), (5, (1,)), (5, (0, 1)), (6, (0,)))
    )
    assert equal(same, others.pop(0))
    for segment in (same, *others):
        assert len(np.unique(segment.observations[0, :, 0])) == N
    first = np.stack([segment.observations[0] for segment in (same, *others)])
    assert len(np.unique(first)) == first.size
    actions = np.stack([segment.actions for segment in (same, *others)]).reshape(4, -1)
    shares = (actions[:, None] == actions).mean(2)[~np.eye(4, dtype=bool)]
    assert shares.max() < 0.6  # by chance a third of them are equal


def test_collectors_in_this_process_take_turns_or_lie_side_by_side() -> None:
    def collectors() -> list[Collector]:
        return [Collector(SPEC, index) for index in range(2)]

    whole = InProcess(collectors()).gather(PARAMETERS[0], 3)
    alone = [collector.collect(PARAMETERS[0], 3) for collector in collectors()]
    assert whole.rewards.shape == (T, 2 * N) and whole.version == 3
    for k, part in enumerate(alone):
        columns = slice(k * N, (k + 1) * N)
        for found, expected in zip(whole[:6], part[:6], strict=True):
            np.testing.assert_array_equal(found[:, columns], expected)

    turns, own = InProcess(collectors()), collectors()
    for k in range(4):
        if k == 3:  # in mid-round: the state begins with whose turn it is
            again = InProcess(collectors())
            again.set_state(turns.get_state())
        request = (PARAMETERS[k // 2], k, 0.3 * (k % 2))
        segment = turns.next(*request)
        assert equal(segment, own[k % 2].collect(*request))
    assert equal(segment, again.next(*request))
