"""What agents cannot learn from is refused before anything starts, in one sentence."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from labs.rl.envs.checks import CHECKED_STEPS, check_environment
from labs.rl.envs.make import make_env
from labs.rl.envs.settings import EnvSettings
from labs.runtime.errors import InputError

SETTINGS = EnvSettings("mine/Thing-v0", ("size=3",))


class Sound(gymnasium.Env):
    """Three numbers, two actions, ends after five steps; what it returns can be replaced."""

    observation_space: spaces.Space = spaces.Box(-1, 1, (3,), np.float32)
    action_space: spaces.Space = spaces.Discrete(2)

    def __init__(self, **parts: Any) -> None:
        self.parts = parts
        self.steps = self.actions = 0
        self.observation_space = parts.get("space", self.observation_space)

    def part(self, name: str, default: Any) -> Any:
        value = self.parts.get(name, default)
        return value(self.steps) if callable(value) else value

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        observation = self.part("first", self.part("observation", np.zeros(3, np.float32)))
        return observation, self.part("first_info", {})

    def step(self, action: Any) -> Any:
        self.steps += 1
        return (
            self.part("observation", np.zeros(3, np.float32)),
            self.part("reward", 1.0),
            self.part("terminated", self.steps >= 5),
            self.part("truncated", False),
            self.part("info", {}),
        )


class TakesNoSeed(Sound):
    def reset(self) -> Any:  # type: ignore[override]
        return np.zeros(3, np.float32)


class ReturnsOne(Sound):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0]


class ReturnsTwo(Sound):
    """An observation of two numbers looks like an observation and an info."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return (0.0, 1.0)


class FourValues(Sound):
    def step(self, action: Any) -> Any:
        return np.zeros(3, np.float32), 1.0, False, {}


class Nothing(Sound):
    def step(self, action: Any) -> Any:
        return None


def late(value: Any, otherwise: Any) -> Callable[[int], Any]:
    """At every third step alone."""
    return lambda step: value if step % 3 == 2 else otherwise


ROW = np.zeros(3, np.float32)
OLD = r"has the interface from before gymnasium 0\.26"
SHAPE = r"expected an array of numbers of shape \(3,\)$"


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (TakesNoSeed(), rf"{OLD} \(reset\(\) takes no seed\): its reset must take seed"),
        (ReturnsOne(), rf"{OLD} \(reset returned only an array of shape \(3,\) and dtype float32"),
        (ReturnsTwo(), r"observation from reset that is 0.0: " + SHAPE),
        (FourValues(), rf"{OLD} \(step returned four values\)"),
        (Nothing(), r"returned None from step: expected five values"),
        (Sound(observation=np.zeros(4)), rf"from reset that is an array of shape \(4,\).*{SHAPE}"),
        (Sound(first=ROW[None]), rf"from reset .* shape \(1, 3\) .*{SHAPE}"),
        (Sound(observation=late(ROW[:2], ROW)), rf"from step .* shape \(2,\) .*{SHAPE}"),
        (Sound(observation=None), rf"observation from reset that is None: {SHAPE}"),
        (Sound(observation=[[1, 2], [3]]), SHAPE),
        (Sound(observation=np.array(["a", "b", "c"])), SHAPE),
        (Sound(observation={"x": ROW}), SHAPE),
        (Sound(observation=late(ROW + np.nan, ROW)), "observation with nan from step: .* finite"),
        (Sound(first=ROW - np.inf), "observation with -inf from reset"),
        (Sound(reward=np.array([1.0])), r"reward from step that is an array of shape \(1,\)"),
        (Sound(reward=late(None, 0.5)), r"reward from step that is None: expected one number"),
        (Sound(reward="high"), "reward from step that is 'high': expected one number"),
        (Sound(reward=late(np.nan, 0.5)), "reward from step that is nan: expected a finite"),
        (Sound(terminated=None), "None as terminated from step: expected True or False"),
        (Sound(truncated=np.array([False])), r"shape \(1,\) and dtype bool as truncated"),
        (Sound(terminated=0.5), "0.5 as terminated"),
        (Sound(info=None), "None as info from step: expected a dict"),
        (Sound(first_info=[]), r"\[\] as info from reset"),
        (Sound(space=spaces.Discrete(3, start=4), observation=7), "is 7: .* number from 4 to 6"),
        (Sound(space=spaces.Discrete(3), observation=np.array([1])), "a whole number from 0 to 2"),
        (Sound(space=spaces.Discrete(3), observation=1.0), "is 1.0: .* number from 0 to 2"),
        (Sound(space=spaces.Dict({"x": spaces.Discrete(2)})), "`wrapper` .*FlattenObservation"),
        (Sound(space=spaces.Box(-1, 1, (0,))), "observations Box.*: supported are a Box with one"),
        (Sound(space=None), "has None as its observation space: set observation_space to one of"),
        (Sound(reward="1.5"), "reward from step that is '1.5': expected one number"),
        (
            Sound(reward=torch.ones(1)),
            r"that is a Tensor of shape \(1,\) .*: expected one number",
        ),
        (
            Sound(observation=torch.ones(3, requires_grad=True)),
            rf"a Tensor of shape \(3,\).*{SHAPE}",
        ),
        (Sound(info={"is_success": "no"}), r"'no' as info\['is_success'\]: expected True or"),
        (Sound(info=late({"collision": 3}, {})), r"3 as info\['collision'\]: expected True or"),
        (
            Sound(info={"is_success": np.array([True, False])}),
            r"an array of shape \(2,\) and dtype bool as info\['is_success'\]: expected True",
        ),
    ],
)
def test_one_sentence_names_what_was_returned_and_what_is_expected(
    env: Sound, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        check_environment(SETTINGS, env)
    text = str(caught.value)
    assert "mine/Thing-v0" in text and "\n" not in text
    assert not re.search(r"\.\s+[A-Z]", text), "more than one sentence"


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"observation": [0.5, 1, 2]},  # a list is converted
        {"observation": np.ones(3)},  # float64
        {"observation": np.array([5, -7, 900])},  # beyond the bounds: many environments are so
        {"reward": np.float32(0.25)},
        {"reward": np.array(3)},
        {"reward": True},
        {"terminated": np.bool_(True)},
        {"truncated": 1},
        {"space": spaces.Discrete(5), "observation": 4},
        {"space": spaces.Discrete(5, start=-2), "observation": np.array(-2)},
        {"info": {"path": [1, 2], "is_success": None}},
        {"info": {"is_success": torch.tensor(True), "collision": np.float32(0)}},
        {"reward": torch.tensor(2.5)},
        {"observation": torch.ones(3)},
    ],
)
def test_what_can_be_used_passes(parts: dict[str, Any]) -> None:
    check_environment(SETTINGS, Sound(**parts))


def test_an_exception_of_the_environment_is_not_changed() -> None:
    def burn(step: int) -> float:
        raise ZeroDivisionError("the motor burns")

    with pytest.raises(ZeroDivisionError, match="the motor burns"):
        check_environment(SETTINGS, Sound(reward=burn))


class Watched(Sound):
    made: int = 0
    actions_seen: list[Any] = []  # noqa: RUF012  (shared by all copies on purpose)

    def __init__(self) -> None:
        super().__init__()
        Watched.made += 1
        self.action_space = spaces.Box(-3, 9, (2,), np.int64)

    def step(self, action: Any) -> Any:
        Watched.actions_seen.append(action)
        return super().step(action)


@pytest.fixture
def watched() -> Iterator[str]:
    gymnasium.register("test/Watched-v0", Watched)
    Watched.made = 0
    Watched.actions_seen.clear()
    yield "test/Watched-v0"
    del gymnasium.registry["test/Watched-v0"]


def test_a_process_checks_an_environment_once_with_actions_of_its_space(watched: str) -> None:
    env = make_env(watched, 2, seed=0)
    assert Watched.made == 3 and len(Watched.actions_seen) == CHECKED_STEPS
    for action in Watched.actions_seen:
        assert action in env.action_space
    make_env(watched, 2, seed=1)
    assert Watched.made == 5 and len(Watched.actions_seen) == CHECKED_STEPS
    make_env(EnvSettings(watched, ("max_episode_steps=4",)), 1, seed=0)
    assert len(Watched.actions_seen) == 2 * CHECKED_STEPS  # other settings, another environment


class Broken(Sound):
    """Sound for thirty steps."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.total = what, 0

    def step(self, action: Any) -> Any:
        self.total += 1
        observation, reward, terminated, truncated, info = super().step(action)
        if self.total > 30:
            observation = observation[:2] if self.what == "shape" else observation
            reward = None if self.what == "reward" else reward
            info = {"is_success": "yes"} if self.what == "success" else info
        return observation, reward, terminated, truncated, info


@pytest.mark.parametrize(
    ("what", "copies", "message"),
    [
        ("reward", 2, "returned the reward None: expected one number"),
        ("success", 2, r"returned 'yes' as info\['is_success'\]: expected True or False"),
        ("shape", 1, r"observation of shape \(2,\): expected \(3,\)"),
        ("shape", 3, r"observation of shape \(2,\): expected \(3,\)"),
    ],
)
def test_what_goes_wrong_later_is_one_sentence_too(what: str, copies: int, message: str) -> None:
    gymnasium.register("test/Broken-v0", Broken, kwargs={"what": what})
    try:
        env = make_env("test/Broken-v0", copies, seed=0)
        env.reset()
        for _ in range(30):
            env.step(np.zeros(copies, dtype=int))
        with pytest.raises(InputError, match=message):
            env.step(np.zeros(copies, dtype=int))
    finally:
        del gymnasium.registry["test/Broken-v0"]


@pytest.mark.parametrize(
    ("entry_point", "kwargs", "message"),
    [
        (Broken, {}, "`env_kwargs` has no what, which test/Entry-v0 needs: for instance what=1"),
        ("colorsys:Maze", {}, "registered as colorsys:Maze, which does not exist"),
        ("no_such_module:Maze", {}, "needs a package that is not installed .*no_such_module"),
        (Broken, {"what": "shape"}, None),
    ],
)
def test_what_cannot_be_made_is_one_sentence(
    entry_point: Any, kwargs: dict[str, Any], message: str | None
) -> None:
    gymnasium.register("test/Entry-v0", entry_point, kwargs=kwargs)
    try:
        if message is None:
            make_env("test/Entry-v0", 1, seed=0).close()
            return
        with pytest.raises(InputError, match=message):
            make_env("test/Entry-v0", 1, seed=0)
    finally:
        del gymnasium.registry["test/Entry-v0"]
