"""Any gymnasium environment with flat or discrete observations, in the form that agents learn from.

``make_env`` is the one way to an environment: it finds it, refuses what is not supported, and runs
its copies in the fastest way there is.
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
from labs.runtime.errors import InputError

UNLIMITED = 10_000
"""Where an environment has no time limit of its own, its episodes are truncated here."""

_CART_POLE = "gymnasium.envs.classic_control.cartpole:CartPoleEnv"
_LIMIT = "max_episode_steps"
_TRUSTED = ("gymnasium.envs.", "labs.rl.")
"""Entry points that need no check."""

_checked: set[tuple[EnvSettings, str]] = set()
"""What this process has checked: one copy and a few steps are enough for all."""


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

    Copy ``i`` starts from the ``i``-th number that ``SeedSequence(seed)`` generates, and draws all
    its later episodes from the generator that this seeds, so that neighbouring seeds share nothing.
    An environment without a time limit is truncated after ``UNLIMITED`` steps.

    Args:
        env: an id of gymnasium's registry, ``module:id`` for a module that registers it, or
            settings with keyword arguments (``max_episode_steps`` among them) and wrappers.
        num_envs: copies, at least 1.
        seed: not negative.
        frame_stack: an observation is the last ``frame_stack`` ones, oldest first; the first
            observation of an episode is repeated to fill it.
        episode_seeds: episode number ``k`` starts from ``episode_seeds[k]``, whichever copy runs
            it, so that every agent can be evaluated from the same starts. Later episodes draw from
            the copy's generator.
        render: draw ``frames``.

    Raises:
        InputError: an unknown id, a package that is missing, a space that is not supported, or
            what ``labs.rl.envs.checks.check_environment`` refuses.
        NoFramesError: ``render``, and the environment draws none.
    """
    if num_envs < 1:
        raise InputError(f"`num_envs` {num_envs} must be at least 1")
    if frame_stack < 1:
        raise InputError(f"`frame_stack` {frame_stack} must be at least 1; 1 is no stacking")
    if seed < 0:
        raise InputError(f"`seed` {seed} must not be negative; for instance 0")
    settings = as_settings(env)
    recipe = _Recipe(settings, render)
    recipe.check()
    vector_env = recipe.make_vector_env(num_envs)
    try:
        return Environment(settings.env_id, vector_env, seed, frame_stack, episode_seeds)
    except InputError:  # a space that is not supported
        vector_env.close()
        raise


def make_single(env: str | EnvSettings) -> gymnasium.Env[Any, Any]:
    """One copy as gymnasium has it, with its wrappers and its time limit, for other libraries.

    Raises:
        InputError: as for ``make_env``.
    """
    recipe = _Recipe(as_settings(env), render=False)
    recipe.check()
    return gymnasium.wrappers.TimeLimit(recipe.make(render=False), recipe.limit)


class _Recipe:
    """All that building copies takes."""

    def __init__(self, settings: EnvSettings, render: bool) -> None:
        self.settings = settings
        self._spec = find_spec(settings.env_id)
        self._render = render
        self._arguments = settings.arguments()
        limit = self._arguments.pop(_LIMIT, self._spec.max_episode_steps or UNLIMITED)
        if not isinstance(limit, int) or limit < 1:
            raise InputError(f"`env_kwargs` {_LIMIT}={limit} must be a whole number above 0")
        self.limit = limit
        self._limited = limit != UNLIMITED
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
                f"environment {settings.env_id} is registered as {self._spec.entry_point}, which is"
                f" not there ({error})"
            ) from None
        _require_accepted(settings, creator, self._arguments, self._spec.kwargs)
        if render and "rgb_array" not in getattr(creator, "metadata", {}).get("render_modes", ()):
            raise NoFramesError(
                f"environment {settings.env_id} draws no frames: its metadata has no render mode"
                " rgb_array"
            )

    def check(self) -> None:
        """``check_environment`` on a fresh copy, unless this process has done that before."""
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
        if plain and self.limit == (spec.max_episode_steps or UNLIMITED):
            vector_creator = _creator(spec.vector_entry_point)
            if hasattr(vector_creator, "get_state") and hasattr(vector_creator, "set_state"):
                return self._building(
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

        The time limit is counted around all copies, but where wrappers may ask for it.
        """
        bare = copy.deepcopy(self._spec)
        bare.order_enforce = False
        bare.disable_env_checker = True
        bare.max_episode_steps = self.limit if self._wrappers and self._limited else None
        options: dict[str, Any] = {"render_mode": "rgb_array"} if render else {}
        env = self._building(lambda: gymnasium.make(bare, **self._arguments, **options))
        for path, wrapper in zip(self.settings.wrapper, self._wrappers, strict=True):
            try:
                env = wrapper(env)
            except Exception as error:  # whatever a wrapper of a user's own raises
                raise InputError(
                    f"`wrapper` {path} cannot be put around {self.settings.env_id}:"
                    f" {type(error).__name__}: {error}"
                ) from error
            if not isinstance(env, gymnasium.Env):
                raise InputError(f"`wrapper` {path} returned {env!r}: expected is a gymnasium.Env")
        return env

    def _building(self, build: Callable[[], Any]) -> Any:
        settings = self.settings
        try:
            return build()
        except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
            raise missing_package(settings.env_id, error) from None
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            if "gymnasium.Env" in str(error) and isinstance(error, TypeError):
                raise InputError(
                    f"environment {settings.env_id} is not a gymnasium.Env, perhaps one of the"
                    " package gym of before gymnasium: its class must be derived from gymnasium.Env"
                ) from None
            if "render_mode" in str(error) and self._render:
                raise NoFramesError(
                    f"environment {settings.env_id} draws no frames: it takes no render_mode ({text})"
                ) from None
            if self._arguments:
                raise InputError(
                    f"`env_kwargs` {' '.join(settings.env_kwargs)}: {settings.env_id} cannot be made"
                    f" with them ({text})"
                ) from error
            raise


def _creator(entry_point: Any) -> Any:
    return load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point


def _require_accepted(
    settings: EnvSettings, creator: Any, arguments: dict[str, Any], registered: dict[str, Any]
) -> None:
    """Raise an InputError that names an argument that the environment lacks, or does not take."""
    try:
        accepted = inspect.signature(creator).parameters
    except (TypeError, ValueError):  # written in C: it will say so itself
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
                f"`env_kwargs` {name} is no argument of {settings.env_id}: it takes"
                f" {', '.join(takes)}"
            )
