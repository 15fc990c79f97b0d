"""Keyword arguments and wrappers of environments, from the command line to the copies."""

from typing import Any

import gymnasium
import numpy as np
import pytest

from labs.rl.envs.frames import NoFramesError, as_frame
from labs.rl.envs.make import make_env, make_single
from labs.rl.envs.settings import EnvSettings
from labs.runtime.errors import InputError


class Doubled(gymnasium.RewardWrapper):
    def reward(self, reward: Any) -> float:
        return 2 * float(reward)


class Shifted(gymnasium.RewardWrapper):
    def reward(self, reward: Any) -> float:
        return float(reward) + 10


def broken(env: Any) -> Any:
    raise KeyError("battery")


def nothing(env: Any) -> Any:
    return 17


not_callable = 3


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "wrapping", sys.modules[__name__])


def test_values_are_typed_as_python_writes_them() -> None:
    given = ("a=3", "b=-0.5", "c=(1, 2)", "d='x=y'", "e=8x8", "f=true", "g=False", "h=None", "i=")
    expected = {"a": 3, "b": -0.5, "c": (1, 2), "d": "x=y", "e": "8x8", "f": True, "g": False}
    found = EnvSettings("any", given).arguments()
    assert found == expected | {"h": None, "i": ""}
    assert type(found["f"]) is bool and type(found["a"]) is int


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("gravity",), "`env_kwargs` gravity is not of the form key=value"),
        (("=3",), "`env_kwargs` =3 is not of the form"),
        (("a-b=3",), "`env_kwargs` a-b=3 is not of the form"),
        (("a=3", "a=4"), "`env_kwargs` has a twice"),
        (("render_mode=human",), "`env_kwargs` render_mode is set automatically"),
    ],
)
def test_invalid_keyword_arguments_are_refused(given: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EnvSettings("any", given)


@pytest.mark.parametrize(
    ("env", "given", "message"),
    [
        (
            "Pendulum-v1",
            "gravity=3",
            "`env_kwargs` gravity is not an argument of Pendulum-v1: it takes g, max_episode_steps$",
        ),
        (
            "FrozenLake-v1",
            "map_name=9x9",
            "`env_kwargs` map_name=9x9: cannot make FrozenLake-v1",
        ),
        ("Pendulum-v1", "max_episode_steps=0", "`env_kwargs` max_episode_steps=0 must be a whole"),
        ("Pendulum-v1", "max_episode_steps=x", "`env_kwargs` max_episode_steps=x must be a whole"),
    ],
)
def test_what_the_environment_does_not_take_is_refused(env: str, given: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_env(EnvSettings(env, (given,)), 1, seed=0)


def test_arguments_reach_every_copy() -> None:
    lake = make_env(EnvSettings("FrozenLake-v1", ("map_name=8x8", "is_slippery=false")), 3, seed=0)
    assert lake.observation_shape == (64,)
    lake.reset()
    for _ in range(7):  # to the right, without slipping
        step = lake.step(np.full(3, 2))
    np.testing.assert_array_equal(step.observations.argmax(axis=1), [7, 7, 7])
    for env_id in ("CartPole-v1", "labs/NavigationGoal-v1"):  # which have loops of their own
        env = make_env(EnvSettings(env_id, ("max_episode_steps=2",)), 3, seed=0)
        env.reset()
        ends = [env.step(np.zeros(3, dtype=int)).truncated.tolist() for _ in range(4)]
        assert ends == [[False] * 3, [True] * 3] * 2


def test_the_first_wrapper_is_the_innermost() -> None:
    settings = EnvSettings("CartPole-v1", (), ("wrapping:Doubled", "wrapping:Shifted"))
    env = make_env(settings, 2, seed=0)
    env.reset()
    assert env.step(np.zeros(2, dtype=int)).rewards.tolist() == [12, 12]
    single = make_single(EnvSettings("CartPole-v1", ("max_episode_steps=2",), settings.wrapper))
    single.reset(seed=0)
    assert [single.step(0)[1:4] for _ in range(2)] == [(12, False, False), (12, False, True)]
    wide = make_env(
        EnvSettings("MountainCar-v0", (), ("gymnasium.wrappers:TimeAwareObservation",)), 1, seed=0
    )
    assert wide.observation_shape == (3,)  # of the wrapper


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("wrapping:Tripled", "`wrapper` wrapping:Tripled: module wrapping has no Tripled"),
        ("Doubled", "`wrapper` Doubled is not of the form module:name"),
        ("wrapping:broken", "`wrapper` wrapping:broken cannot wrap .*KeyError: 'battery'"),
        ("wrapping:nothing", "`wrapper` wrapping:nothing returned 17: expected a gymnasium.Env"),
        ("wrapping:not_callable", "`wrapper` wrapping:not_callable cannot be called"),
    ],
)
def test_an_object_that_is_no_wrapper_is_refused(path: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_env(EnvSettings("CartPole-v1", (), (path,)), 1, seed=0)


def test_images_of_other_forms_become_frames() -> None:
    generator = np.random.default_rng(0)
    colours = generator.integers(2, 256, (4, 5, 3)).astype(np.uint8)
    for drawn in (colours, [colours], colours.tolist(), colours.astype(np.float64), colours + 0.2):
        frame = as_frame("any", drawn)
        assert frame.dtype == np.uint8
        np.testing.assert_array_equal(frame, colours)
    np.testing.assert_array_equal(as_frame("any", colours / 255), colours)
    np.testing.assert_array_equal(as_frame("any", [colours * 0, colours]), colours)  # the last
    for grey in (colours[..., 0], colours[..., :1]):
        np.testing.assert_array_equal(as_frame("any", grey), np.dstack([colours[..., 0]] * 3))
    alpha = np.full((4, 5, 1), 255, np.uint8)
    alpha[0] = 0
    blended = as_frame("any", np.concatenate([colours, alpha], axis=2))
    np.testing.assert_array_equal(blended[1:], colours[1:])
    assert (blended[0] == 255).all()


@pytest.mark.parametrize(
    "drawn", [None, "ansi", [], np.zeros(4), np.zeros((4, 4, 2)), [[1], [1, 2]]]
)
def test_unusable_frames_are_reported(drawn: Any) -> None:
    with pytest.raises(NoFramesError, match="environment any did not render an image"):
        as_frame("any", drawn)
