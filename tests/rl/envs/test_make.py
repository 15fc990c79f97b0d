"""The one interface to every environment."""

import io
from collections.abc import Iterator
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from labs.rl.envs.episodes import Environment, Episode
from labs.rl.envs.loop_vector_env import LoopVectorEnv
from labs.rl.envs.make import make_env
from labs.runtime.errors import InputError


class Counter(gymnasium.Env):
    """Observes how many steps it has taken; ends as its options say."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,))
    action_space = spaces.Discrete(2, start=5)
    actions: ClassVar[list[Any]] = []

    def __init__(
        self,
        end: int = 4,
        truncates: bool = False,
        both: bool = False,
        bad: tuple[int, str] = (0, ""),
    ):
        self.end, self.truncates, self.both, self.bad = end, truncates, both, bad

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.count = 0
        return np.array([0, 7], np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.count += 1
        Counter.actions.append(action)
        at, what = self.bad
        if at == self.count and what == "raise":
            raise RuntimeError("the motor burns")
        observation = np.array([self.count, 7], np.float32)
        if at == self.count and what == "observation":
            observation[1] = np.nan
        reward = np.inf if at == self.count and what == "reward" else float(self.count)
        ended = self.count == self.end
        terminated = ended and (self.both or not self.truncates)
        return observation, reward, terminated, ended and (self.both or self.truncates), {}


class Continuous(Counter):
    action_space = spaces.Box(-2, 3, (2,))


class Picture(Counter):
    observation_space = spaces.Box(0, 1, (8, 8, 3))


class Combination(Counter):
    action_space = spaces.MultiDiscrete([2, 2])


class Reporter(Counter):
    """Its length and what its last info says are drawn when an episode begins."""

    infos: ClassVar[list[dict[str, Any]]] = [
        {},
        {"is_success": None, "path": [1]},
        {"is_success": True, "path": np.zeros(2)},
        {"is_success": np.float32(0), "path": np.zeros(3)},  # whose form differs from the others'
        {"is_success": False, "collision": True},
        {"collision": True},
    ]
    outcomes = ("terminated", "terminated", "success", "failure", "collision", "terminated")

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        result = super().reset(seed=seed)
        self.end, self.kind = (int(n) for n in self.np_random.integers((1, 0), (5, 6)))
        return result

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        *result, _ = super().step(action)
        return (*result, self.infos[self.kind if self.count == self.end else 2])


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    for env in (Counter, Continuous, Picture, Combination, Reporter):
        gymnasium.register(f"test/{env.__name__}-v0", env)
    Counter.actions.clear()
    yield
    for env in (Counter, Continuous, Picture, Combination, Reporter):
        del gymnasium.registry[f"test/{env.__name__}-v0"]


def counter(**kwargs: Any) -> str:
    gymnasium.registry["test/Counter-v0"].kwargs = kwargs
    return "test/Counter-v0"


def actions_for(env: Environment, generator: np.random.Generator) -> np.ndarray:
    if env.discrete:
        return generator.integers(0, env.action_size, env.num_envs)
    return generator.normal(size=(env.num_envs, env.action_size)).astype(np.float32)


def test_restarts_in_the_same_step_and_keeps_the_final_observation() -> None:
    env = make_env(counter(end=3), 2, seed=0)
    assert (env.observation_shape, env.action_size, env.discrete) == ((2,), 2, True)
    np.testing.assert_array_equal(env.reset(), [[0, 7]] * 2)
    for count in (1, 2):
        step = env.step(np.zeros(2, dtype=int))
        np.testing.assert_array_equal(step.observations, [[count, 7]] * 2)
        assert step.final_observations is step.observations and step.episodes == []
    step = env.step(np.zeros(2, dtype=int))
    np.testing.assert_array_equal(step.final_observations, [[3, 7]] * 2)
    np.testing.assert_array_equal(step.observations, [[0, 7]] * 2)
    assert step.terminated.all() and not step.truncated.any()
    np.testing.assert_array_equal(step.rewards, [3, 3])
    assert step.rewards.dtype == step.observations.dtype == np.float32
    assert step.episodes == [Episode(k, 6.0, 3, "terminated") for k in (0, 1)]
    assert [e.number for _ in range(3) for e in env.step(np.zeros(2, dtype=int)).episodes] == [2, 3]


def test_termination_and_truncation_are_never_mixed() -> None:
    for kwargs, expected in (
        ({"truncates": True}, (False, True, "truncated")),
        ({"both": True}, (True, False, "terminated")),
    ):
        env = make_env(counter(end=1, **kwargs), 1, seed=0)
        env.reset()
        step = env.step(np.zeros(1, dtype=int))
        assert (step.terminated[0], step.truncated[0], step.episodes[0].outcome) == expected


def test_an_environment_without_a_limit_is_truncated() -> None:
    env = LoopVectorEnv("counter", lambda: Counter(end=-1), 1, max_episode_steps=6)
    env.reset(seed=0)
    ends = [env.step(np.array([5]))[3][0] for _ in range(6)]
    assert ends == [False] * 5 + [True]


def test_the_registered_time_limit_counts() -> None:
    env = make_env("Pendulum-v1", 3, seed=0)
    env.reset()
    truncated = [env.step(np.zeros((3, 1), np.float32)).truncated.all() for _ in range(200)]
    assert truncated.index(True) == 199


def test_frame_stack_is_oldest_first_and_restarts_filled() -> None:
    env = make_env(counter(end=3), 1, seed=0, frame_stack=3)
    assert env.observation_shape == (6,)
    np.testing.assert_array_equal(env.reset()[0], [0, 7] * 3)
    env.step(np.zeros(1, dtype=int))
    step = env.step(np.zeros(1, dtype=int))
    np.testing.assert_array_equal(step.observations[0], [0, 7, 1, 7, 2, 7])
    step = env.step(np.zeros(1, dtype=int))
    np.testing.assert_array_equal(step.final_observations[0], [1, 7, 2, 7, 3, 7])
    np.testing.assert_array_equal(step.observations[0], [0, 7] * 3)


def test_actions_reach_the_environment_in_the_form_of_its_space() -> None:
    env = make_env(counter(), 2, seed=0)
    env.reset()
    Counter.actions.clear()
    env.step(np.array([0, 1]))
    assert Counter.actions == [5, 6]
    assert {type(action) for action in Counter.actions} == {np.int64}
    env = make_env("test/Continuous-v0", 1, seed=0)
    assert (env.action_size, env.discrete) == (2, False)
    env.reset()
    Counter.actions.clear()
    env.step(np.array([[-9.0, 0.6]]))  # of -2 to 3: the lowest, and 0.5 + 2.5 * 0.6
    np.testing.assert_array_equal(Counter.actions[0], np.array([-2, 2.0], np.float32))


def test_discrete_observations_are_one_hot() -> None:
    env = make_env("FrozenLake-v1", 4, seed=0)
    observations = env.reset()
    np.testing.assert_array_equal(observations, np.eye(16, dtype=np.float32)[[0] * 4])
    for _ in range(5):
        observations = env.step(np.full(4, 1)).final_observations
    np.testing.assert_array_equal(observations.sum(axis=1), 1)


@pytest.mark.parametrize(
    "env_id", ["labs/NavigationGoal-v0", "labs/NavigationGoal-v1", "CartPole-v1", "Pendulum-v1"]
)
def test_same_seed_same_numbers_and_a_checkpoint_continues_exactly(env_id: str) -> None:
    def run(env: Environment, generator: np.random.Generator, steps: int) -> list[Any]:
        return [env.step(actions_for(env, generator)) for _ in range(steps)]

    first, second, other = (make_env(env_id, 3, seed, frame_stack=2) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.reset(), second.reset())
    assert (first.reset() != other.reset()).any()
    generator = np.random.default_rng(0)
    run(first, generator, 60)
    buffer = io.BytesIO()
    torch.save(first.get_state(), buffer)
    buffer.seek(0)
    rest = run(first, generator, 230)
    assert sum(len(step.episodes) for step in rest) >= 3

    observations = other.set_state(torch.load(buffer, weights_only=True))
    generator = np.random.default_rng(0)
    again = run(second, generator, 60)  # an undisturbed run of the same seed
    np.testing.assert_array_equal(again[-1].observations, observations)
    for a, b in zip(rest, run(other, generator, 230), strict=True):
        for x, y in zip(a[:5], b[:5], strict=True):
            np.testing.assert_array_equal(x, y)
        assert a.episodes == b.episodes


def test_episodes_start_from_their_own_seeds_whichever_copy_runs_them() -> None:
    seeds = [100 + k for k in range(40)]
    expected = {}
    for k, seed in enumerate(seeds):
        single = gymnasium.make("labs/NavigationGoal-v1")
        expected[k] = single.reset(seed=seed)[0]
    env = make_env("labs/NavigationGoal-v1", 6, seed=0, episode_seeds=seeds)
    starts = dict(enumerate(env.reset()))
    numbers, running = 6, dict(enumerate(range(6)))
    while numbers < 40:
        step = env.step(np.full(6, 0))
        for copy in np.flatnonzero(step.terminated | step.truncated):
            assert running[copy] in [episode.number for episode in step.episodes]
            running[copy], starts[numbers] = numbers, step.observations[copy]
            numbers += 1
    for k in range(40):
        np.testing.assert_array_equal(starts[k], expected[k])


def test_outcomes_of_navigation() -> None:
    env = make_env("labs/NavigationGoal-v1", 32, seed=0)
    env.reset()
    found = []
    for _ in range(150):  # half of the robots circle until their time is over
        found += env.step(np.where(np.arange(32) % 2, 1, 0)).episodes
    outcomes = {episode.outcome for episode in found}
    assert outcomes == {"success", "collision", "timeout"}
    for episode in found:
        assert (episode.total_reward > 0.5) == (episode.outcome == "success")
        assert (episode.length == 100) == (episode.outcome == "timeout")


def test_an_episode_is_judged_by_its_own_last_info_whatever_other_copies_say() -> None:
    seeds = list(range(500, 560))
    env = make_env("test/Reporter-v0", 4, seed=0, episode_seeds=seeds)
    env.reset()
    found: dict[int, Episode] = {}
    while len(found) < len(seeds):
        found |= {e.number: e for e in env.step(np.zeros(4, dtype=int)).episodes if e.number < 60}
    single = Reporter()
    for number, seed in enumerate(seeds):
        single.reset(seed=seed)
        assert found[number].outcome == Reporter.outcomes[single.kind]
        assert found[number].length == single.end
    assert len({episode.outcome for episode in found.values()}) == 4


@pytest.mark.parametrize("what", ["observation", "reward"])
def test_nan_stops_and_names_the_step(what: str) -> None:
    env = make_env(counter(end=99, bad=(40, what)), 3, seed=0)
    env.reset()
    for _ in range(39):
        env.step(np.zeros(3, dtype=int))
    with pytest.raises(InputError, match=rf"test/Counter-v0 .*{what}.* at step 40 \(copy 0 of 3\)"):
        env.step(np.zeros(3, dtype=int))


def test_an_error_in_step_is_not_changed() -> None:
    env = make_env(counter(end=99, bad=(20, "raise")), 2, seed=0)
    env.reset()
    for _ in range(19):
        env.step(np.zeros(2, dtype=int))
    with pytest.raises(RuntimeError, match="the motor burns"):
        env.step(np.zeros(2, dtype=int))


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("CartPoel-v1", "CartPole-v1"),
        ("labs/NavigatoinGoal-v1", "labs/NavigationGoal-v1"),
        ("LunarLander-v2", "LunarLander-v3"),
        ("no_such_module:Thing-v0", "there is no module no_such_module.*current directory"),
        ("mine/PointMass-v0", "as module:id, .* for instance my_module:mine/PointMass-v0$"),
        ("ALE/Pong-v5", r"package ale-py \(pip install 'ale-py'\), .*: ale_py:ALE/Pong-v5$"),
        ("BreakoutNoFrameskip-v4", "package ale-py .*: ale_py:ALE/Breakout-v5$"),
        ("MiniGrid-Empty-8x8-v0", "package minigrid .*: minigrid:MiniGrid-Empty-8x8-v0$"),
        ("labs.rl.navigation:labs/Navigation-v1", "did you mean labs.rl.navigation:labs/Navi"),
        (
            "labs.rl.navigation:mine/Thing-v0",
            "module labs.rl.navigation registers labs/NavigationG",
        ),
        ("colorsys:mine/Thing-v0", "module colorsys was imported and does not register it"),
        ("test/Picture-v0", r"Box.*supported are a Box with one dimension, images of uint8 and"),
        ("test/Combination-v0", r"MultiDiscrete.*supported are Discrete and a Box"),
    ],
)
def test_unusable_environments_get_one_clear_sentence(env_id: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make_env(env_id, 1, seed=0)
    assert env_id in str(caught.value) or "no_such_module" in env_id


@pytest.mark.parametrize(
    ("kwargs", "option"),
    [
        ({"num_envs": 0, "seed": 0}, "`num_envs` 0"),
        ({"num_envs": 1, "seed": -1}, "`seed` -1"),
        ({"num_envs": 1, "seed": 0, "frame_stack": 0}, "`frame_stack` 0"),
        ({"num_envs": 1, "seed": 0, "render": True}, "cannot be rendered"),
    ],
)
def test_bad_options_are_named(kwargs: dict[str, Any], option: str) -> None:
    with pytest.raises(InputError, match=option):
        make_env(counter(), **kwargs)


def test_frames_are_of_the_end_not_of_the_restart() -> None:
    env = make_env("labs/NavigationGoal-v1", 1, seed=0, render=True)
    env.reset()
    assert env.frames[0].shape == (400, 400, 3)
    while not (step := env.step(np.zeros(1, dtype=int))).episodes:
        pass
    assert step.episodes[0].outcome == "collision"
    red = np.array([200, 50, 40])  # the robot's colour after a collision
    assert (env.frames[0] == red).all(axis=2).sum() > 100
