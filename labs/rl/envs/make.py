"""Any gymnasium environment with flat or discrete observations, in the form that agents learn from.

``make_env`` is the one way to an environment: it finds it, refuses what is not supported, and runs
its copies in the fastest way there is.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Sequence
from typing import Any

import gymnasium
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec, load_env_creator

import labs.rl.navigation  # noqa: F401  (registers labs/NavigationGoal-v0 and -v1)
from labs.rl.envs.cartpole import CartPoleVectorEnv
from labs.rl.envs.episodes import Environment, missing_package
from labs.rl.envs.loop_vector_env import LoopVectorEnv
from labs.runtime.errors import InputError

UNLIMITED = 10_000
"""Where an environment has no time limit of its own, its episodes are truncated here."""

_CART_POLE = "gymnasium.envs.classic_control.cartpole:CartPoleEnv"


def make_env(
    env_id: str,
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
        env_id: an id of gymnasium's registry, or ``module:id`` for a module that registers it.
        num_envs: copies, at least 1.
        seed: not negative.
        frame_stack: an observation is the last ``frame_stack`` ones, oldest first; the first
            observation of an episode is repeated to fill it.
        episode_seeds: episode number ``k`` starts from ``episode_seeds[k]``, whichever copy runs
            it, so that every agent can be evaluated from the same starts. Later episodes draw from
            the copy's generator.
        render: draw ``frames``.

    Raises:
        InputError: an unknown id, a package that is missing, or a space that is not supported.
    """
    if num_envs < 1:
        raise InputError(f"`num_envs` {num_envs} must be at least 1")
    if frame_stack < 1:
        raise InputError(f"`frame_stack` {frame_stack} must be at least 1; 1 is no stacking")
    if seed < 0:
        raise InputError(f"`seed` {seed} must not be negative; for instance 0")
    spec = _find_spec(env_id)
    try:
        if render and "rgb_array" not in _render_modes(spec):
            raise InputError(f"environment {env_id} draws no frames: it has no mode rgb_array")
        options = {"render_mode": "rgb_array"} if render else {}
        vector_env = _make_vector_env(spec, num_envs, options)
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise missing_package(env_id, error) from None
    try:
        _require_supported(env_id, vector_env)
    except InputError:
        vector_env.close()
        raise
    return Environment(env_id, vector_env, seed, frame_stack, episode_seeds)


def _find_spec(env_id: str) -> EnvSpec:
    module, _, name = env_id.rpartition(":")
    if module:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise InputError(
                f"`env` {env_id}: module {module} cannot be imported: {error}"
            ) from None
    try:
        return gymnasium.spec(name)
    except gymnasium.error.Error:
        lower = {key.lower(): key for key in gymnasium.registry}
        near = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)
        hint = " or ".join(lower[key] for key in near) or "CartPole-v1 or labs/NavigationGoal-v1"
        raise InputError(f"`env` {env_id} is unknown; did you mean {hint}?") from None


def _render_modes(spec: EnvSpec) -> Sequence[str]:
    return getattr(_creator(spec.entry_point), "metadata", {}).get("render_modes", ())


def _creator(entry_point: Any) -> Any:
    return load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point


def _make_vector_env(spec: EnvSpec, num_envs: int, options: dict[str, Any]) -> Any:
    if spec.entry_point == _CART_POLE and not (spec.kwargs or options):
        return CartPoleVectorEnv(num_envs, spec.max_episode_steps or UNLIMITED)
    vector_creator = _creator(spec.vector_entry_point)
    if hasattr(vector_creator, "get_state") and hasattr(vector_creator, "set_state"):
        return gymnasium.make_vec(
            spec,
            num_envs=num_envs,
            vectorization_mode="vector_entry_point",
            autoreset_mode=gymnasium.vector.AutoresetMode.DISABLED,
            **options,
        )
    return LoopVectorEnv(spec, num_envs, spec.max_episode_steps or UNLIMITED, **options)


def _require_supported(env_id: str, vector_env: Any) -> None:
    observation, action = vector_env.single_observation_space, vector_env.single_action_space
    flat = isinstance(observation, spaces.Box) and len(observation.shape) == 1
    if not (flat or isinstance(observation, spaces.Discrete)):
        raise InputError(
            f"`env` {env_id} has observations {observation}: supported are a Box with one dimension"
            " and Discrete, for instance CartPole-v1 or FrozenLake-v1"
        )
    flat = isinstance(action, spaces.Box) and len(action.shape) == 1
    if not (flat or isinstance(action, spaces.Discrete)):
        raise InputError(
            f"`env` {env_id} has actions {action}: supported are Discrete and a Box with one"
            " dimension, for instance CartPole-v1 or Pendulum-v1"
        )
