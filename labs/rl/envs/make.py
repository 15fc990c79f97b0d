"""Making environments: any gymnasium environment with flat, image or discrete observations.

``make_env`` finds the environment, refuses what is not supported, and chooses the fastest way to run
its copies.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
from gymnasium.envs.registration import load_env_creator

from labs.plugins import load_object
from labs.rl.envs.cartpole import CartPoleVectorEnv
from labs.rl.envs.checks import check_environment
from labs.rl.envs.episodes import Environment, missing_package
from labs.rl.envs.frames import NoFramesError
from labs.rl.envs.loop_vector_env import LoopVectorEnv
from labs.rl.envs.registry import find_spec
from labs.rl.envs.settings import EnvSettings, as_settings
from labs.runtime.errors import InputError, require

DEFAULT_TIME_LIMIT = 10_000
"""Steps after which episodes are truncated in environments that have no time limit of their own."""

_CART_POLE = "gymnasium.envs.classic_control.cartpole:CartPoleEnv"
_LIMIT = "max_episode_steps"
_TRUSTED = ("gymnasium.envs.", "labs.rl.")
"""How the entry points begin that are not checked."""

_checked: set[tuple[EnvSettings, str]] = set()
"""Environments that this process has checked, so that each is checked once."""


def make_env(
    env: str | EnvSettings,
    num_envs: int,
    seed: int,
    *,
    frame_stack: int = 1,
    episode_seeds: Sequence[int] = (),
    render: bool = False,
) -> Environment:
    """Build ``num_envs`` copies of a gymnasium environment.

    Copy ``i`` starts from the ``i``-th number that ``SeedSequence(seed)`` generates, and all its later
    episodes from the generator that this number seeds. So the streams of close seeds are independent.
    An environment without a time limit is truncated after ``DEFAULT_TIME_LIMIT`` steps.

    Args:
        env: an id of gymnasium's registry, ``module:id`` for a module that registers it, or
            settings with keyword arguments (``max_episode_steps`` among them) and wrappers.
        num_envs: number of copies, at least 1.
        seed: at least 0.
        frame_stack: stack the last ``frame_stack`` observations, oldest first; the first observation
            of an episode is repeated to fill the stack.
        episode_seeds: episode number ``k`` starts from ``episode_seeds[k]``, whichever copy runs it,
            so that all agents are evaluated from the same states. Later episodes use the copy's
            generator.
        render: render ``frames``.

    Raises:
        InputError: an unknown id, a missing package, a space that is not supported, or what
            ``labs.rl.envs.checks.check_environment`` refuses.
        NoFramesError: ``render`` is set and the environment cannot render.
    """
    require("num_envs", num_envs, num_envs >= 1, "1 or more")
    require("frame_stack", frame_stack, frame_stack >= 1, "1 or more; 1 means no stacking")
    require("seed", seed, seed >= 0, "0 or more")
    settings = as_settings(env)
    builder = _EnvBuilder(settings, render)
    builder.check()
    vector_env = builder.make_vector_env(num_envs)
    try:
        return Environment(settings.env_id, vector_env, seed, frame_stack, episode_seeds)
    except InputError:  # a space that is not supported
        vector_env.close()
        raise


def make_single(env: str | EnvSettings) -> gymnasium.Env[Any, Any]:
    """One copy in gymnasium's own form, with its wrappers and time limit, for other libraries.

    Raises:
        InputError: as for ``make_env``.
    """
    builder = _EnvBuilder(as_settings(env), render=False)
    builder.check()
    return gymnasium.wrappers.TimeLimit(builder.make(render=False), builder.limit)


class _EnvBuilder:
    """Builds copies of one environment."""

    def __init__(self, settings: EnvSettings, render: bool) -> None:
        self.settings = settings
        self._spec = find_spec(settings.env_id)
        self._render = render
        self._arguments = settings.arguments()
        limit = self._arguments.pop(_LIMIT, self._spec.max_episode_steps or DEFAULT_TIME_LIMIT)
        if not isinstance(limit, int) or limit < 1:
            raise InputError(f"`env_kwargs` {_LIMIT}={limit} must be a whole number above 0")
        self.limit = limit
        self._limited = limit != DEFAULT_TIME_LIMIT
        self._wrappers = [load_object(path, "wrapper") for path in settings.wrapper]
        for path, wrapper in zip(settings.wrapper, self._wrappers, strict=True):
            if not callable(wrapper):
                raise InputError(f"`wrapper` {path} cannot be called: name a class or a function")
        try:
            creator = _creator(self._spec.entry_point)
        except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
            raise missing_package(settings.env_id, error) from None
        except AttributeError as error:
            raise InputError(
                f"environment {settings.env_id} is registered as {self._spec.entry_point}, which"
                f" does not exist ({error})"
            ) from None
        _require_accepted(settings, creator, self._arguments, self._spec.kwargs)
        if render and "rgb_array" not in getattr(creator, "metadata", {}).get("render_modes", ()):
            raise NoFramesError(
                f"environment {settings.env_id} cannot be rendered: its metadata has no render mode"
                " rgb_array"
            )

    def check(self) -> None:
        """Run ``check_environment`` on a new copy, unless this process has done it before."""
        entry = self._spec.entry_point
        trusted = isinstance(entry, str) and entry.startswith(_TRUSTED) and not self._wrappers
        key = self.settings, repr((entry, self._spec.kwargs))
        if trusted or key in _checked:
            return
        env = self.make(render=False)
        try:
            check_environment(self.settings, env)
        finally:
            env.close()
        _checked.add(key)

    def make_vector_env(self, num_envs: int) -> Any:
        spec, plain = self._spec, not (self._arguments or self._wrappers)
        options: dict[str, Any] = {"render_mode": "rgb_array"} if self._render else {}
        if spec.entry_point == _CART_POLE and plain and not (spec.kwargs or options):
            return CartPoleVectorEnv(num_envs, self.limit)
        if plain and self.limit == (spec.max_episode_steps or DEFAULT_TIME_LIMIT):
            vector_creator = _creator(spec.vector_entry_point)
            if hasattr(vector_creator, "get_state") and hasattr(vector_creator, "set_state"):
                return self._build(
                    lambda: gymnasium.make_vec(
                        spec,
                        num_envs=num_envs,
                        vectorization_mode="vector_entry_point",
                        autoreset_mode=gymnasium.vector.AutoresetMode.DISABLED,
                        **options,
                    )
                )
        return LoopVectorEnv(
            str(self.settings),
            lambda: self.make(self._render),
            num_envs,
            self.limit,
        )

    def make(self, render: bool) -> gymnasium.Env[Any, Any]:
        """One copy with its wrappers, but without gymnasium's own checks.

        It has no time limit, since ``LoopVectorEnv`` counts it, except under wrappers, which may need
        to know it.
        """
        bare = copy.deepcopy(self._spec)
        bare.order_enforce = False
        bare.disable_env_checker = True
        bare.max_episode_steps = self.limit if self._wrappers and self._limited else None
        options: dict[str, Any] = {"render_mode": "rgb_array"} if render else {}
        env = self._build(lambda: gymnasium.make(bare, **self._arguments, **options))
        for path, wrapper in zip(self.settings.wrapper, self._wrappers, strict=True):
            try:
                env = wrapper(env)
            except Exception as error:  # a user's wrapper may raise anything
                raise InputError(
                    f"`wrapper` {path} cannot wrap {self.settings.env_id}:"
                    f" {type(error).__name__}: {error}"
                ) from error
            if not isinstance(env, gymnasium.Env):
                raise InputError(f"`wrapper` {path} returned {env!r}: expected a gymnasium.Env")
        return env

    def _build(self, build: Callable[[], Any]) -> Any:
        """Call ``build``, and turn the errors that a user can fix into InputErrors."""
        settings = self.settings
        try:
            return build()
        except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
            raise missing_package(settings.env_id, error) from None
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            if "gymnasium.Env" in str(error) and isinstance(error, TypeError):
                raise InputError(
                    f"environment {settings.env_id} is not a gymnasium.Env, perhaps one of the older"
                    " package gym: its class must be derived from gymnasium.Env"
                ) from None
            if "render_mode" in str(error) and self._render:
                raise NoFramesError(
                    f"environment {settings.env_id} cannot be rendered: it takes no render_mode ({text})"
                ) from None
            if self._arguments:
                raise InputError(
                    f"`env_kwargs` {' '.join(settings.env_kwargs)}: cannot make {settings.env_id} with"
                    f" them ({text})"
                ) from error
            raise


def _creator(entry_point: Any) -> Any:
    return load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point


def _require_accepted(
    settings: EnvSettings, creator: Any, arguments: dict[str, Any], registered: dict[str, Any]
) -> None:
    """Raise an InputError if an argument is missing, or the environment does not take it."""
    try:
        accepted = inspect.signature(creator).parameters
    except (TypeError, ValueError):  # written in C: the call itself will fail
        return
    given = {*arguments, *registered}
    for name, p in accepted.items():
        named = p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        if named and p.default is p.empty and name not in given and name != "render_mode":
            raise InputError(
                f"`env_kwargs` has no {name}, which {settings.env_id} needs: for instance {name}=1"
            )
    if any(p.kind == p.VAR_KEYWORD for p in accepted.values()):
        return
    for name in arguments:
        if name not in accepted:
            takes = sorted({*accepted, _LIMIT} - {"self", "render_mode"})
            raise InputError(
                f"`env_kwargs` {name} is not an argument of {settings.env_id}: it takes"
                f" {', '.join(takes)}"
            )
