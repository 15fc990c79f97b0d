"""The options that all algorithms share, and the registry of algorithms."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch

from labs.plugins import import_module
from labs.rl.agents.networks.base import Spaces
from labs.rl.agents.trainer import Trainer
from labs.rl.envs.settings import EnvSettings
from labs.runtime.errors import InputError, require
from labs.runtime.options import WordsTogether


class _AgentConfigType(type):
    """Makes ``AgentConfig(...)`` return the algorithm's own type, as ``Path(...)`` does ``PosixPath``."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
        if cls is AgentConfig:
            return agent_config(*args, **options)
        return super().__call__(*args, **options)


@dataclass(frozen=True)
class AgentConfig(metaclass=_AgentConfigType):
    """The options of training that all algorithms share. Each algorithm adds its own in a subclass.

    ``AgentConfig(algorithm="dqn", env="CartPole-v1", n_step=5)`` returns a config of the algorithm's
    own type. Options that are left out get the values tuned for the algorithm and the environment.

    Raises:
        InputError: a value is out of range, two contradict each other, or the algorithm has no such
            option.
    """

    algorithm: str = "ppo"
    """ppo, dqn, or module:name for an algorithm that your own module registers."""

    env: str = "labs/NavigationGoal-v1"
    """A gymnasium environment, or module:id, which imports the module."""

    env_kwargs: Annotated[tuple[str, ...], WordsTogether()] = ()
    """Its keyword arguments, such as gravity=-5.0."""

    wrapper: Annotated[tuple[str, ...], WordsTogether()] = ()
    """Its wrappers, module:Class; the first is the innermost."""

    seed: int = 0
    """Seed of all random numbers."""

    total_steps: int = 500_000
    """Environment steps in total."""

    num_workers: int = 0
    """Ray actors that collect rollouts; with 0, this process collects them between its updates."""

    envs_per_worker: int = 16
    """Environments that each worker steps."""

    segment_length: int = 128
    """Steps per environment and segment."""

    frame_stack: int = 1
    """Successive observations stacked into one."""

    eval_interval: int = 0
    """Environment steps between two evaluations; 0 means 1/20 of the run."""

    eval_episodes: int = 200
    """Episodes per evaluation; the agent always takes its best action."""

    report_interval: int = 0
    """Environment steps between two points of the training curves; 0 means 1/100 of the run."""

    device: str = "cpu"
    """Where the agent learns: cpu, cuda or auto. Small networks are fastest on the CPU."""

    def __post_init__(self) -> None:
        expected = find_algorithm(self.algorithm).config_type
        if not isinstance(self, expected):
            raise InputError(
                f"`algorithm` {self.algorithm} needs a config of the type {expected.__name__}, not"
                f" {type(self).__name__}"
            )
        for name, least in (
            *(("total_steps", 1), ("envs_per_worker", 1), ("segment_length", 1)),
            *(("frame_stack", 1), ("eval_episodes", 1), ("num_workers", 0), ("seed", 0)),
            *(("eval_interval", 0), ("report_interval", 0)),
        ):
            require(name, getattr(self, name), getattr(self, name) >= least, f"{least} or more")
        for name, parts in (("eval_interval", 20), ("report_interval", 100)):
            if getattr(self, name) == 0:
                object.__setattr__(self, name, max(1, self.total_steps // parts))
        self.env_settings()

    @property
    def rows(self) -> int:
        """Environment steps that all workers together collect for one segment."""
        return self.segment_length * self.envs_per_worker * max(1, self.num_workers)

    def idle_options(self) -> Mapping[str, str]:
        """The options that have no effect with these values of the others, each with the reason."""
        return {}

    def note(self) -> str | None:
        """A sentence on values that are valid, but probably not meant; it is printed at the start."""
        return None

    def env_settings(self) -> EnvSettings:
        """The environment with its keyword arguments and wrappers.

        Raises:
            InputError: a keyword argument is not of the form ``key=value``.
        """
        return EnvSettings(self.env, self.env_kwargs, self.wrapper)

    def resolve(self) -> AgentConfig:
        """This config; no value of it is left to be decided."""
        return self


class Algorithm(NamedTuple):
    """An entry of the registry; see ``register_algorithm``."""

    name: str
    config_type: type[AgentConfig]
    make_trainer: MakeTrainer
    tuned: Mapping[str, Mapping[str, Any]]

    @property
    def path(self) -> str:
        """The name that ``find_algorithm`` accepts in any process: ``module:name``, or ours alone."""
        module = self.make_trainer.__module__
        return (
            self.name if self.name in BUILT_IN or module == "__main__" else f"{module}:{self.name}"
        )

    def configure(self, **options: Any) -> AgentConfig:
        """The config of this algorithm; options that are left out get their tuned values."""
        fields = {field.name: field for field in dataclasses.fields(self.config_type)}
        values = {"algorithm": self.path, "env": fields["env"].default, **options}
        return self.config_type(**{**self.tuned.get(values["env"], {}), **values})


MakeTrainer = Callable[[Any, Spaces, int, torch.device], Trainer]
"""Called with the config, the environment's spaces, a seed and the device to learn on."""

BUILT_IN = {"ppo": "labs.rl.trainers", "dqn": "labs.rl.trainers"}
"""The modules that register our own algorithms, imported on first use."""

_registered: dict[str, Algorithm] = {}


def register_algorithm(
    name: str,
    config_type: type[AgentConfig],
    make_trainer: MakeTrainer,
    tuned: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Register an algorithm for training, evaluation and comparison.

    Args:
        name: an identifier. ``--algorithm module:name`` imports the module, which registers it.
        config_type: frozen dataclass derived from ``AgentConfig``; all fields have defaults.
        make_trainer: called as ``make_trainer(config, spaces, seed, device)``; returns a ``Trainer``.
        tuned: by environment id, the options whose values differ from the config's defaults.

    Raises:
        InputError: the name is already in use, or the config is not an ``AgentConfig``.
    """
    if not name.isidentifier():
        raise InputError(f"algorithm {name!r}: a name is one word, for instance reinforce")
    if not (isinstance(config_type, type) and issubclass(config_type, AgentConfig)):
        raise InputError(f"algorithm {name}: its config must be a subclass of AgentConfig")
    if not config_type.__dataclass_params__.frozen or config_type is AgentConfig:  # type: ignore[attr-defined]  # not in typeshed
        raise InputError(f"algorithm {name}: its config must be a frozen dataclass of its own")
    known = _registered.get(name)
    if name in BUILT_IN and BUILT_IN[name] != make_trainer.__module__:
        raise InputError(f"algorithm {name} is built in: give yours another name")
    if known is not None and known.make_trainer.__module__ != make_trainer.__module__:
        raise InputError(
            f"algorithm {name} is already registered by {known.make_trainer.__module__}, and"
            f" {make_trainer.__module__} registers the same name: rename one of them"
        )
    _registered[name] = Algorithm(name, config_type, make_trainer, dict(tuned or {}))


def find_algorithm(name: str) -> Algorithm:
    """The algorithm of that name; ``module:name`` imports the module that registers it.

    Raises:
        InputError: no such algorithm is registered, or its module cannot be imported.
    """
    module, _, word = name.rpartition(":")
    if module:
        import_module(module, "algorithm")
    elif word not in _registered and word in BUILT_IN:
        importlib.import_module(BUILT_IN[word])
    if word not in _registered:
        if module:
            raise InputError(
                f"`algorithm` {name}: module {module} does not register {word}; it should call"
                f' labs.register_algorithm("{word}", ...)'
            )
        raise InputError(
            f"`algorithm` {name} is unknown: use {', '.join(BUILT_IN)}, or module:name for one that"
            " your own module registers"
        )
    return _registered[word]


def agent_config(algorithm: str = AgentConfig.algorithm, **options: Any) -> AgentConfig:
    """The config of an algorithm; options that are left out get their tuned values.

    Raises:
        InputError: the algorithm is unknown or has no such option, or an option has no effect.
    """
    found = find_algorithm(algorithm)
    names = {field.name for field in dataclasses.fields(found.config_type)}
    for name in options:
        if name not in names:
            raise InputError(_without_effect(name, algorithm))
    config = found.configure(**options)
    for name, reason in config.idle_options().items():
        if name in options:
            raise InputError(f"`{name}` {options[name]} has no effect: {reason}")
    return config


def _without_effect(name: str, algorithm: str) -> str:
    for other in BUILT_IN:
        fields = {field.name for field in dataclasses.fields(find_algorithm(other).config_type)}
        if name in fields:
            return (
                f"`{name}` has no effect with `algorithm` {algorithm}: it is an option of {other}"
            )
    return f"`{name}` is not an option of `algorithm` {algorithm}"
