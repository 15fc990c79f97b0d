"""Evaluations are unbiased, comparable and reproducible; videos show what happened."""

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from labs.rl.envs.episodes import Episode
from labs.rl.evaluation import Evaluation, episode_metrics, evaluate
from labs.rl.recording import record, record_episodes, select_episodes
from labs.runtime.errors import InputError

NAVIGATION = "labs/NavigationGoal-v1"


class Drawn(gymnasium.Env):
    """Its length, 1 or 40, is drawn when it begins; the return is the length."""

    observation_space = spaces.Box(0, 40, (1,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.left = int(self.np_random.choice([1, 40]))
        return np.array([self.left], np.float32), {}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.left -= 1
        return np.array([self.left], np.float32), 1.0, self.left == 0, False, {}


class TowardsGoal:
    """Turns to the goal and drives, whatever stands in the way."""

    observation_shape, action_size, discrete = (19,), 3, True

    def __init__(self) -> None:
        self.batches: list[int] = []

    def act(
        self, observations: np.ndarray, generator: np.random.Generator | None = None
    ) -> np.ndarray:
        self.batches.append(len(observations))
        if generator is not None:
            return generator.integers(0, 3, len(observations))
        sine = observations[:, 17]
        return np.where(sine > 0.1, 1, np.where(sine < -0.1, 2, 0))


class Constant:
    def __init__(self, observation_size: int, action_size: int) -> None:
        self.observation_shape = (observation_size,)
        self.action_size, self.discrete = action_size, True

    def act(
        self, observations: np.ndarray, generator: np.random.Generator | None = None
    ) -> np.ndarray:
        return np.zeros(len(observations), dtype=int)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    gymnasium.register("test/Drawn-v0", Drawn)
    yield
    del gymnasium.registry["test/Drawn-v0"]


def test_short_episodes_are_not_favoured() -> None:
    """Of 300 episodes half are long; the first 300 to end on 50 copies would mostly be short."""
    result = evaluate(Constant(1, 2), "test/Drawn-v0", 300, seed=0, num_envs=50)
    lengths = np.array([episode.length for episode in result.episodes])
    assert len(lengths) == 300 and set(lengths) == {1, 40}
    expected = []
    for seed in result.seeds:
        env = Drawn()
        env.reset(seed=seed)
        expected.append(env.left)
    np.testing.assert_array_equal(lengths, expected)
    assert 0.4 < (lengths == 40).mean() < 0.6


def test_the_same_episodes_however_many_copies_run_them() -> None:
    one, many = (evaluate(TowardsGoal(), NAVIGATION, 30, seed=1, num_envs=n) for n in (1, 16))
    assert one.table().equals(many.table())
    other = evaluate(TowardsGoal(), NAVIGATION, 30, seed=2)
    assert not set(other.seeds) & set(one.seeds)
    assert evaluate(TowardsGoal(), NAVIGATION, 10, seed=1).episodes == one.episodes[:10]


def test_every_policy_gets_the_same_episodes() -> None:
    """The starts of navigation's episodes, seen by policies of which one crashes at once."""
    seeds = [
        evaluate(policy, NAVIGATION, 20, seed=4, num_envs=4).seeds
        for policy in (TowardsGoal(), Constant(19, 3))
    ]
    assert seeds[0] == seeds[1] and len(set(seeds[0])) == 20


def test_sampling_is_reproducible_and_differs_from_the_best_actions() -> None:
    first, second = (
        evaluate(TowardsGoal(), NAVIGATION, 20, seed=0, stochastic=True) for _ in range(2)
    )
    assert first.table().equals(second.table())
    assert not first.table().equals(evaluate(TowardsGoal(), NAVIGATION, 20, seed=0).table())


def test_no_more_copies_than_episodes() -> None:
    policy = TowardsGoal()
    evaluate(policy, NAVIGATION, 5, seed=0, num_envs=64)
    assert set(policy.batches) == {5}


def test_summary_and_metrics() -> None:
    outcomes = ["success"] * 6 + ["collision"] * 3 + ["timeout"]
    episodes = [Episode(k, float(k), 10, outcome) for k, outcome in enumerate(outcomes)]
    assert episode_metrics(episodes) == {
        "return_mean": 4.5,
        "length_mean": 10.0,
        "success_rate": 0.6,
        "collision_rate": 0.3,
        "timeout_rate": 0.1,
    }
    summary = Evaluation(episodes, list(range(10))).summary().set_index("measure")
    assert list(summary.index) == ["success", "collision", "timeout", "return", "length"]
    # Wilson's interval of 6 in 10, and Student's of 0..9: 4.5 +- 2.2622 * 3.0277 / sqrt(10).
    np.testing.assert_allclose(
        summary.loc["success", ["mean", "mean_low", "mean_high"]].astype(float),
        [0.6, 0.3127, 0.8318],
        atol=1e-4,
    )
    np.testing.assert_allclose(
        summary.loc["return", ["mean", "mean_low", "mean_high"]].astype(float),
        [4.5, 2.3341, 6.6659],
        atol=1e-3,
    )


def test_without_successes_there_is_still_a_success_rate() -> None:
    failed = [Episode(0, 0.0, 5, "timeout"), Episode(1, 0.0, 5, "collision")]
    assert episode_metrics(failed)["success_rate"] == 0
    summary = Evaluation(failed, [0, 1]).summary().set_index("measure")
    assert summary.loc["success", "mean"] == 0 and summary.loc["success", "mean_high"] > 0.5
    unknown = [Episode(0, 0.0, 5, "truncated")]
    assert "success_rate" not in episode_metrics(unknown)
    assert "no success rate" in str(Evaluation(unknown, [0]).note())
    assert Evaluation(failed, [0, 1]).note() is None


def test_an_episode_without_is_success_counts_as_no_success() -> None:
    episodes = [
        Episode(k, 0.0, 1, outcome)
        for k, outcome in enumerate(["success", "terminated", "failure", "truncated", "terminated"])
    ]
    assert episode_metrics(episodes)["success_rate"] == 0.2
    evaluation = Evaluation(episodes, [0] * 5)
    assert str(evaluation.note()).startswith('3 of 5 episodes did not report info["is_success"]')
    summary = evaluation.summary().set_index("measure")
    assert summary.loc["success", "mean"] == 0.2 and summary.loc["terminated", "mean"] == 0.4


def test_a_policy_of_another_environment_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"CartPole-v1 .*observation shape is \(4,\), the agent's is \(19,\)"
    ):
        evaluate(TowardsGoal(), "CartPole-v1", 5, seed=0)


def test_half_of_the_selected_episodes_are_failures_of_every_kind() -> None:
    outcomes = ["success"] * 10 + ["collision"] * 10 + ["timeout"] * 2
    episodes = [Episode(k, 0.0, 1, outcome) for k, outcome in enumerate(outcomes)]
    assert [e.number for e in select_episodes(episodes, 8)] == [0, 1, 2, 3, 10, 11, 20, 21]
    assert [e.number for e in select_episodes(episodes[:11], 4)] == [0, 1, 2, 10]
    assert [e.number for e in select_episodes(episodes[10:], 4)] == [10, 11, 20, 21]
    assert len(select_episodes(episodes, 100)) == 22
    returns = [5.0, 1.0, 9.0, 3.0, 7.0, 8.0]
    graded = [Episode(k, value, 1, "terminated") for k, value in enumerate(returns)]
    assert [e.number for e in select_episodes(graded, 4)] == [1, 2, 3, 5]


def test_a_video_repeats_the_evaluated_episodes() -> None:
    policy = TowardsGoal()
    result = evaluate(policy, NAVIGATION, 40, seed=0)
    shown = select_episodes(result.episodes, 4)
    assert {episode.outcome for episode in shown} >= {"success", "collision"}
    for episode in shown:
        recording = record(policy, NAVIGATION, result.seeds[episode.number])
        assert recording.episode._replace(number=episode.number) == episode
        assert len(recording.frames) == episode.length + 1
    frames = record_episodes(policy, NAVIGATION, result, 4)
    assert len(frames) == sum(episode.length + 1 + 12 for episode in shown)
    assert {frame.shape for frame in frames} == {(424, 400, 3)}
    assert (frames[0][400:] < 128).any()  # the caption


def test_long_videos_skip_frames_and_wide_ones_are_scaled() -> None:
    from labs.rl.recording import Recording, make_video

    frames = [np.full((200, 800, 3), k % 256, np.uint8) for k in range(1000)]
    shown = make_video(
        [Recording(Episode(0, 1.0, 999, "terminated"), frames)], max_frames=300, hold=3
    )
    assert len(shown) == 250 + 3
    assert shown[0].shape == (100 + 24, 400, 3)
    assert shown[-1][0, 0, 0] == 999 % 256


@pytest.mark.parametrize("sizes", [[(8, 8)], [(40, 30), (44, 30)], [(3, 200)], [(400, 2)]])
def test_captions_of_small_frames_fit(sizes: list[tuple[int, int]]) -> None:
    """Whatever the frames' sizes: the video has one size, and no caption reaches its edge."""
    from labs.rl.recording import Recording, make_video

    generator = np.random.default_rng(0)
    frames = [generator.integers(0, 100, (*size, 3)).astype(np.uint8) for size in sizes]
    episode = Episode(12345, -1.2345e-200, 10_000, "terminated")
    shown = make_video(
        [Recording(episode, frames), Recording(Episode(0, 1.0, 1, "success"), frames)]
    )
    (shape,) = {frame.shape for frame in shown}
    assert shape[1] >= 240
    height = max(rows * max(1, min(-(-240 // columns), 480 // rows)) for rows, columns in sizes)
    caption = shown[0][height:]
    assert (
        (caption < 128).any() and (caption[:, -6:] == 255).all() and (caption[:, :6] == 255).all()
    )
    written = (caption < 128).any(axis=(1, 2))
    lines = int((np.diff(written.astype(int)) == 1).sum())
    assert lines == (1 if shape[1] == 400 else 2) and (caption[-3:] == 255).all()
    assert (shown[-1][height:] < 128).any()


def test_small_frames_keep_their_pixels() -> None:
    from labs.rl.recording import Recording, make_video

    frame = np.random.default_rng(0).integers(0, 256, (8, 60, 3)).astype(np.uint8)
    shown = make_video([Recording(Episode(0, 1.0, 1, "success"), [frame])])[0]
    np.testing.assert_array_equal(shown[:32], frame.repeat(4, axis=0).repeat(4, axis=1))
