"""NavigationGoal: starts, motion, rewards, ends, and the vector environment against the single."""

import math
import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from scipy import stats

from labs.rl.navigation.environment import NavigationGoalEnv, NavigationGoalVectorEnv
from labs.rl.navigation.scenes import draw_scene

FORWARD, RIGHT, LEFT = 0, 1, 2
ASIDE = [(1.0, 1.0), (1.0, 2.2), (2.2, 1.0)]  # obstacles in a corner


def placed(
    version: int, noise: float = 0.0, **options: Any
) -> tuple[NavigationGoalEnv, np.ndarray]:
    env = NavigationGoalEnv(version, noise=noise)
    observation, _ = env.reset(seed=0, options={"obstacles": ASIDE, **options})
    return env, observation


def ahead_by(bearing: float, distance: float = 3.0) -> dict[str, Any]:
    """A robot that after one step forward has the goal at this bearing and distance."""
    after = np.array([5.0, 5.2])
    goal = after + distance * np.array([math.sin(bearing), math.cos(bearing)])
    return {"position": (5.0, 5.0), "yaw": 0.0, "goal": goal}


@pytest.mark.parametrize("version", [0, 1])
def test_passes_gymnasiums_checker(version: int) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        env = gymnasium.make(f"labs/NavigationGoal-v{version}", render_mode="rgb_array")
        check_env(env.unwrapped)
    messages = [str(warning.message) for warning in caught]
    assert [text for text in messages if "out of date" not in text] == []


def test_make_vec_builds_the_true_vector_environment() -> None:
    env = gymnasium.make_vec("labs/NavigationGoal-v1", num_envs=3)
    assert isinstance(env, NavigationGoalVectorEnv)
    observations, _ = env.reset(seed=0)
    assert observations.shape == (3, 19) and observations in env.observation_space


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize("version", [0, 1])
def test_vector_equals_single_step_for_step(version: int, mode: str) -> None:
    """Observations, rewards, ends and infos, bit for bit, through dozens of restarts."""
    copies, env_id = 12, f"labs/NavigationGoal-v{version}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vector = gymnasium.make_vec(env_id, num_envs=copies, autoreset_mode=mode)
        singles = gymnasium.make_vec(env_id, copies, "sync", vector_kwargs={"autoreset_mode": mode})
    both = (vector, singles)
    first = [env.reset(seed=7) for env in both]
    np.testing.assert_array_equal(first[0][0], first[1][0])
    generator = np.random.default_rng(0)
    ends = np.zeros(2)
    for step in range(130):
        # In every fourth robot's circling episodes time runs out.
        actions = np.where(np.arange(copies) % 4 == 0, RIGHT, generator.integers(0, 3, copies))
        mine, theirs = (env.step(actions) for env in both)
        for a, b in zip(mine[:4], theirs[:4], strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b, err_msg=f"step {step}")
        assert data_equivalence(mine[4], theirs[4], exact=True)
        ends += [mine[2].sum(), mine[3].sum()]
        ended = mine[2] | mine[3]
        if mode == "Disabled" and ended.any():
            seeds = [step if step % 3 == 0 else None] * copies
            again = [env.reset(seed=seeds, options={"reset_mask": ended.copy()}) for env in both]
            np.testing.assert_array_equal(again[0][0], again[1][0])
    assert ends[0] > 30 and ends[1] >= 2


def test_a_robot_does_not_depend_on_the_robots_beside_it() -> None:
    many = NavigationGoalVectorEnv(20, autoreset_mode="SameStep")
    few = NavigationGoalVectorEnv(3, autoreset_mode="SameStep")
    many.reset(seed=0)
    few.reset(seed=0)
    for _ in range(150):
        a, b = many.step(np.full(20, FORWARD)), few.step(np.full(3, FORWARD))
        np.testing.assert_array_equal(a[0][:3], b[0])


def test_disabled_mode_wants_a_reset() -> None:
    env = NavigationGoalVectorEnv(4, autoreset_mode="Disabled")
    env.reset(seed=0)
    ended = np.zeros(4, dtype=bool)
    while not ended.any():
        _, _, terminated, truncated, _ = env.step(np.zeros(4, dtype=int))
        ended = terminated | truncated
    with pytest.raises(gymnasium.error.ResetNeeded, match=str(np.flatnonzero(ended)[0])):
        env.step(np.zeros(4, dtype=int))


def test_scenes_keep_their_distances_and_are_uniform() -> None:
    generator = np.random.default_rng(0)
    scenes = [draw_scene(generator) for _ in range(3000)]
    for position, _, goal, obstacles in scenes:
        assert 4 <= math.dist(position, goal) <= 8
        assert len(obstacles) == 3
        for centre in obstacles:
            assert math.dist(centre, position) > 1.5
            assert 2.5 <= math.dist(centre, goal) <= 6
        assert all(1 <= value <= 9 for point in (position, goal, *obstacles) for value in point)
    for values, low, width in (
        ([scene.position[0] for scene in scenes], 1, 8),
        ([scene.position[1] for scene in scenes], 1, 8),
        ([scene.yaw for scene in scenes], -math.pi, 2 * math.pi),
    ):
        assert stats.kstest(values, "uniform", args=(low, width)).pvalue > 1e-3
    # Three obstacles are three draws, not one: their order carries no information.
    first, last = ([scene.obstacles[k][0] for scene in scenes] for k in (0, 2))
    assert stats.ks_2samp(first, last).pvalue > 1e-3


@pytest.mark.parametrize(
    ("action", "turn", "advance"), [(FORWARD, 0.0, 0.2), (RIGHT, 0.2, 0.1), (LEFT, -0.2, 0.1)]
)
def test_motion_without_noise(action: int, turn: float, advance: float) -> None:
    env, _ = placed(1, position=(5, 5), yaw=0.3, goal=(8, 8))
    env.step(action)
    yaw = 0.3 + turn
    expected = [5 + advance * math.sin(yaw), 5 + advance * math.cos(yaw)]
    np.testing.assert_allclose(env.robots.now.position[:, 0], expected)
    assert env.robots.now.yaw[0] == pytest.approx(yaw)


def test_noise_has_its_standard_deviation_on_turn_distance_and_ranges() -> None:
    env = NavigationGoalVectorEnv(4000, autoreset_mode="SameStep")
    env.reset(seed=0)
    before, yaw = env.robots.now.position.copy(), env.robots.now.yaw.copy()
    observations, *_ = env.step(np.full(4000, RIGHT))
    turn = env.robots.now.yaw - yaw
    advance = np.linalg.norm(env.robots.now.position - before, axis=0)
    true = np.stack([env.robots.ranges(i) for i in range(300)])
    error = observations[:300, :16] * 14.8 + 0.2 - true
    for values, mean in ((turn, 0.2), (advance, 0.1), (error, 0.0)):
        assert values.mean() == pytest.approx(mean, abs=0.002)
        assert values.std() == pytest.approx(0.02, abs=0.001)


def test_observations_of_both_versions() -> None:
    options = {"position": (5.0, 5.0), "yaw": 0.0, "goal": (2.0, 9.0)}  # left ahead
    bearing = math.atan2(-3, 4)
    for version, direction in (
        (0, [(bearing + math.pi) / math.pi]),
        (1, [math.sin(bearing), math.cos(bearing)]),
    ):
        env, observation = placed(version, **options)
        assert observation.dtype == np.float32 and observation in env.observation_space
        np.testing.assert_allclose(
            observation[[0, 4, 8, 12]], (5 - 0.2) / 14.8, atol=1e-5, err_msg="four walls"
        )
        np.testing.assert_allclose(observation[16], (5 - 0.2) / 14.8, atol=1e-6)
        np.testing.assert_allclose(observation[17:], direction, atol=1e-6)


def test_the_folded_bearing_confuses_left_ahead_with_right_behind() -> None:
    left_ahead = {"position": (5.0, 5.0), "yaw": 0.0, "goal": (3.0, 7.0)}
    right_behind = {"position": (5.0, 5.0), "yaw": 0.0, "goal": (7.0, 3.0)}
    folded = [placed(0, **options)[1][17] for options in (left_ahead, right_behind)]
    assert folded[0] == pytest.approx(0.75) == folded[1]
    corrected = [placed(1, **options)[1][17:] for options in (left_ahead, right_behind)]
    np.testing.assert_allclose(corrected[0], -corrected[1], atol=1e-6)


@pytest.mark.parametrize(
    ("bearing", "reward"),
    [
        # The distance shrinks: full reward straight ahead, none from 45 degrees on.
        (0.0, 2.0),
        (math.pi / 8, 1.0),
        (math.pi / 4 - 1e-6, 0.0),
        (math.pi / 4 + 1e-6, 0.0),
        (3 * math.pi / 8, 0.0),
        # To the left the bearing is folded to near pi.
        (-1e-6, 2.0),
        (-math.pi / 8, 1.0),
        (-math.pi / 4, 0.0),
        (-3 * math.pi / 8, 0.0),
        # It does not shrink: full cost across, none from 45 degrees behind on.
        (math.pi / 2 + 0.04, -(3 * math.pi / 4 - math.pi / 2 - 0.04) / (math.pi / 4)),
        (5 * math.pi / 8, -0.5),
        (3 * math.pi / 4, 0.0),
        (math.pi, 0.0),
        (-math.pi / 2 - 0.04, -(1 - 0.04 / (math.pi / 4))),
        (-5 * math.pi / 8, -0.5),
        (-3 * math.pi / 4, 0.0),
    ],
)
def test_shaping_of_version_0(bearing: float, reward: float) -> None:
    env, _ = placed(0, **ahead_by(bearing))
    _, found, terminated, truncated, _ = env.step(FORWARD)
    assert found == pytest.approx(reward, abs=1e-5)
    assert not terminated and not truncated


@pytest.mark.parametrize(("version", "success", "collision"), [(0, 500, -100), (1, 1.02, -0.98)])
def test_rewards_of_ends(version: int, success: float, collision: float) -> None:
    """Just inside and outside of both limits; in version 1 the 0.2 driven count 0.02."""
    env, _ = placed(version, **ahead_by(0.0, 1 - 1e-4))
    _, reward, terminated, truncated, info = env.step(FORWARD)
    assert reward == pytest.approx(success, abs=1e-5) and terminated and not truncated
    assert info == {"is_success": True, "collision": False}

    env, _ = placed(version, **ahead_by(0.0, 1 + 1e-4))
    assert not env.step(FORWARD)[2]

    wall = {"yaw": 0.0, "goal": (5.0, 4.0)}  # behind: version 1 pays for the distance gained
    env, _ = placed(version, position=(5.0, 9.4 + 1e-4), **wall)
    _, reward, terminated, truncated, info = env.step(FORWARD)
    assert reward == pytest.approx(collision - 0.04 * version, abs=1e-5)
    assert terminated and not truncated
    assert info == {"is_success": False, "collision": True}

    env, _ = placed(version, position=(5.0, 9.4 - 1e-4), **wall)
    assert not env.step(FORWARD)[2]


@pytest.mark.parametrize("version", [0, 1])
def test_a_collision_beside_the_goal_is_a_collision(version: int) -> None:
    env, _ = placed(version, position=(5.0, 9.45), yaw=0.0, goal=(5.5, 9.5))
    _, reward, terminated, _, info = env.step(FORWARD)
    assert terminated and reward < 0
    assert info == {"is_success": False, "collision": True}


@pytest.mark.parametrize(("version", "last_reward"), [(0, -100.0), (1, None)])
def test_step_100_truncates(version: int, last_reward: float | None) -> None:
    """Circling: version 0 pays 100 for running out of time, version 1 nothing beside shaping."""
    env, _ = placed(version, position=(5.0, 5.0), yaw=0.0, goal=(9.0, 9.0))
    for step in range(1, 101):
        before = env.robots.now.distance[0]
        _, reward, terminated, truncated, info = env.step(RIGHT)
        assert not terminated
        assert truncated == (step == 100)
    assert info == {"is_success": False, "collision": False}
    expected = 0.1 * (before - env.robots.now.distance[0]) if last_reward is None else last_reward
    assert reward == pytest.approx(expected)


@pytest.mark.parametrize(("version", "reward"), [(0, 500.0), (1, 1.02)])
def test_the_goal_at_step_100_is_a_success(version: int, reward: float) -> None:
    env, _ = placed(version, **ahead_by(0.0, 0.9))
    env.robots.steps[:] = 99
    _, found, terminated, truncated, _ = env.step(FORWARD)
    assert found == pytest.approx(reward, abs=1e-6) and terminated and not truncated


def test_circling_earns_nothing_in_version_1_and_something_in_version_0() -> None:
    """31 left turns of 0.2 are almost a full circle: version 1 sums to what was gained."""
    total = {}
    for version in (0, 1):
        env, _ = placed(version, position=(5.0, 5.0), yaw=0.0, goal=(9.0, 5.0))
        rewards = [env.step(LEFT)[1] for _ in range(31)]
        total[version] = sum(rewards)
        gained = 4.0 - env.robots.now.distance[0]
    assert abs(gained) < 0.1
    assert total[1] == pytest.approx(0.1 * gained, abs=1e-9)
    assert total[0] > 1


def test_same_seed_same_episodes_whatever_the_robot_did_before() -> None:
    """An episode's numbers are drawn when it begins, so the next start does not depend on it."""
    starts = []
    for action in (FORWARD, RIGHT):
        env = NavigationGoalEnv()
        env.reset(seed=3)
        for _ in range(20):
            env.step(action)
        starts.append(env.reset()[0])
    np.testing.assert_array_equal(*starts)


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match=r"speed.*position"):
        NavigationGoalEnv().reset(options={"speed": 1})
    with pytest.raises(ValueError, match="rgb_array"):
        NavigationGoalEnv(render_mode="human")


def test_frames_show_what_is_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    env = NavigationGoalEnv(render_mode="rgb_array", noise=0)
    env.reset(options={"position": (2, 3), "yaw": 0, "goal": (8, 7), "obstacles": [(5, 5)] * 3})
    frame = env.render()
    assert frame.shape == (400, 400, 3) and frame.dtype == np.uint8

    def pixel(x: float, y: float) -> tuple[int, ...]:
        return tuple(int(value) for value in frame[400 - round(y * 40), round(x * 40)])

    red, green, blue = pixel(8, 7)
    assert green > red and green > blue
    red, green, blue = pixel(2, 2.8)
    assert blue > red and blue > green
    assert max(pixel(5, 5)) < 120
    assert pixel(7.9, 1.1) == (250, 250, 248)
    env.step(FORWARD)
    assert (env.render() != frame).any()
