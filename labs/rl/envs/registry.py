"""From an environment's id to its entry in gymnasium's registry."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

import labs.rl.navigation  # noqa: F401  (registers labs/NavigationGoal-v0 and -v1)
from labs.plugins import import_module
from labs.runtime.errors import InputError

PACKAGES = {
    "ale/": ("ale-py", "ale_py"),
    "minigrid": ("minigrid", "minigrid"),
    "babyai": ("minigrid", "minigrid"),
    "miniworld": ("miniworld", "miniworld"),
    "highway": ("highway-env", "highway_env"),
    "parking": ("highway-env", "highway_env"),
    "panda": ("panda-gym", "panda_gym"),
    "fetch": ("gymnasium-robotics", "gymnasium_robotics"),
    "handmanipulate": ("gymnasium-robotics", "gymnasium_robotics"),
    "handreach": ("gymnasium-robotics", "gymnasium_robotics"),
    "pointmaze": ("gymnasium-robotics", "gymnasium_robotics"),
    "antmaze": ("gymnasium-robotics", "gymnasium_robotics"),
    "adroit": ("gymnasium-robotics", "gymnasium_robotics"),
    "frankakitchen": ("gymnasium-robotics", "gymnasium_robotics"),
    "dm_control/": ("shimmy[dm-control]", "shimmy"),
    "craftium/": ("craftium", "craftium"),
}
"""By how an id begins, in lower case: the package that has the environment, as pip knows it, and the
module that registers it."""

_ATARI = ("Breakout", "Pong", "SpaceInvaders", "Seaquest", "Qbert", "BeamRider", "MsPacman")
"""Games whose old ids have no namespace."""


def find_spec(env_id: str) -> EnvSpec:
    """The registry's entry of ``id`` or ``module:id``; the module is imported first.

    Raises:
        InputError: the module cannot be imported, or does not register the environment; the message
            names similar ids, or the package to install.
    """
    module, _, name = env_id.rpartition(":")
    if module:
        import_module(module, "env")
    try:
        return gymnasium.spec(name)
    except gymnasium.error.Error as error:
        raise InputError(f"`env` {env_id} is unknown{_hint(module, name, error)}") from None


def _hint(module: str, name: str, error: Exception) -> str:
    if module:
        own = sorted(key for key, spec in gymnasium.registry.items() if _comes_from(spec, module))
        near = _near(name, own, f"{module}:")
        if near or own:
            return near or f": module {module} registers {_listed(own)}"
        return f": module {module} was imported and does not register it"
    near = _near(name, gymnasium.registry)
    lower = name.lower()
    found = next((PACKAGES[start] for start in PACKAGES if lower.startswith(start)), None)
    if found is None and lower.startswith(tuple(game.lower() for game in _ATARI)):
        game = next(game for game in _ATARI if lower.startswith(game.lower()))
        found, name = PACKAGES["ale/"], f"ALE/{game}-v5"
    if found is not None:
        package, module = found
        return (
            f": it is part of the package {package} (pip install '{package}'), whose module goes before"
            f" the id: {module}:{name}"
        )
    if isinstance(error, gymnasium.error.DeprecatedEnv) and not near:
        return f": {error}"
    form = (
        "name your own environment as module:id, where the module registers the id when it is"
        " imported"
    )
    return f"{near}; {form}" if near else f": {form}, for instance my_module:{name}"


def _near(name: str, names: Iterable[str], before: str = "") -> str:
    lower = {key.lower(): key for key in names}
    # A higher cutoff than the default: MountainCar-v0 is not a hint for mine/PointMass-v0.
    near = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.7)
    return f"; did you mean {' or '.join(before + lower[key] for key in near)}?" if near else ""


def _comes_from(spec: EnvSpec, module: str) -> bool:
    entry: Any = spec.entry_point
    origin = entry.partition(":")[0] if isinstance(entry, str) else entry.__module__
    return bool(origin == module or str(origin).startswith(f"{module}."))


def _listed(names: list[str]) -> str:
    shown = names[:5]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
