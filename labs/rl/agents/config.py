"""What every algorithm's training is told, and the registry of algorithms."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch

from labs.plugins import import_module
from labs.rl.agents.learner import require
from labs.rl.agents.networks.base import Spaces
from labs.rl.agents.trainer import Trainer
from labs.rl.envs.settings import EnvSettings
from labs.runtime.errors import InputError
from labs.runtime.options import WordsTogether


class _AgentConfigType(type):
    """``AgentConfig(...)`` is of the algorithm's own type, as ``Path(...)`` is a ``PosixPath``."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
        if cls is AgentConfig:
            return agent_config(*args, **options)
        return super().__call__(*args, **options)


@dataclass(frozen=True)
class AgentConfig(metaclass=_AgentConfigType):
    """How an agent is trained: what all algorithms share. Each adds its own in a subclass.

    ``AgentConfig(algorithm="dqn", env="CartPole-v1", n_step=5)`` is a config of the algorithm's own
    type. Options that are left out have values tuned for algorithm and environment.

    Raises:
        InputError: a value is out of range, two contradict each other, or the algorithm has no such
            option.
    """

    algorithm: str = "ppo"
    """ppo, dqn, or module:name for an algorithm that a module of your own registers."""

    env: str = "labs/NavigationGoal-v1"
    """A gymnasium environment with a flat or discrete observation; module:id imports the module."""

    env_kwargs: Annotated[tuple[str, ...], WordsTogether()] = ()
    """Keyword arguments of the environment, each key=value, for instance gravity=-5.0."""

    wrapper: Annotated[tuple[str, ...], WordsTogether()] = ()
    """Wrappers of the environment, each module:Class; the first is the innermost."""

    seed: int = 0
    """Everything random derives from it."""

    total_steps: int = 500_000
    """Environment steps of training, all environments counted together."""

    num_workers: int = 0
    """Ray actors that collect rollouts. Without any, this process does it between its updates."""

    envs_per_worker: int = 16
    """Environments that each worker steps together."""

    segment_length: int = 128
    """Steps of every environment that a worker collects at a time."""

    frame_stack: int = 1
    """Observations in a row that the agent sees as one."""

    eval_interval: int = 0
    """Environment steps between two evaluations; 0 takes a twentieth of the run."""

    eval_episodes: int = 200
    """Episodes per evaluation, which takes the best action every time."""

    report_interval: int = 0
    """Environment steps between two points of the training curves; 0 takes a hundredth."""

    device: str = "cpu"
    """Where the agent learns: cpu, cuda or auto. Networks of this size are fastest on the CPU."""

    def __post_init__(self) -> None:
        expected = find_algorithm(self.algorithm).config_type
        if not isinstance(self, expected):
            raise InputError(
                f"`algorithm` {self.algorithm} has a config of the type {expected.__name__}, and this"
                f" is a {type(self).__name__}"
            )
        for name in ("total_steps", "envs_per_worker", "segment_length", "frame_stack"):
            require(name, getattr(self, name), getattr(self, name) >= 1, "100")
        require("eval_episodes", self.eval_episodes, self.eval_episodes >= 1, "100")
        require("num_workers", self.num_workers, self.num_workers >= 0, "2")
        require("seed", self.seed, self.seed >= 0, "0")
        for name, parts in (("eval_interval", 20), ("report_interval", 100)):
            value = getattr(self, name)
            require(name, value, value >= 0, "10000")
            if value == 0:
                object.__setattr__(self, name, max(1, self.total_steps // parts))
        self.env_settings()

    @property
    def rows(self) -> int:
        """Environment steps of one segment of all workers."""
        return self.segment_length * self.envs_per_worker * max(1, self.num_workers)

    def idle_options(self) -> Mapping[str, str]:
        """The options that have no effect beside the others' values, each with the reason."""
        return {}

    def env_settings(self) -> EnvSettings:
        """The environment with its keyword arguments and wrappers.

        Raises:
            InputError: a keyword argument is not of the form ``key=value``.
        """
        return EnvSettings(self.env, self.env_kwargs, self.wrapper)

    def resolve(self) -> AgentConfig:
        """This config: all its values are written out."""
        return self


class Algorithm(NamedTuple):
    """An algorithm as it was registered."""

    name: str
    config_type: type[AgentConfig]
    make_trainer: MakeTrainer
    tuned: Mapping[str, Mapping[str, Any]]

    @property
    def path(self) -> str:
        """What ``find_algorithm`` finds it by in any process: ``module:name``, or the name of ours."""
        module = self.make_trainer.__module__
        return (
            self.name if self.name in BUILT_IN or module == "__main__" else f"{module}:{self.name}"
        )

    def configure(self, **options: Any) -> AgentConfig:
        """The config of this algorithm with tuned values where ``options`` say nothing."""
        fields = {field.name: field for field in dataclasses.fields(self.config_type)}
        values = {"algorithm": self.path, "env": fields["env"].default, **options}
        return self.config_type(**{**self.tuned.get(values["env"], {}), **values})


MakeTrainer = Callable[[Any, Spaces, int, torch.device], Trainer]
"""Called with the config, the environment's spaces, a seed, and the device to learn on."""

BUILT_IN = {"ppo": "labs.rl.trainers", "dqn": "labs.rl.trainers"}
"""The modules that register our own algorithms, imported when they are first asked for."""

_registered: dict[str, Algorithm] = {}


def register_algorithm(
    name: str,
    config_type: type[AgentConfig],
    make_trainer: MakeTrainer,
    tuned: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Make an algorithm known to training, evaluation and comparison.

    Args:
        name: a word. ``--algorithm module:name`` imports the module, which registers it.
        config_type: frozen dataclass derived from ``AgentConfig``; all fields have defaults.
        make_trainer: called as ``make_trainer(config, spaces, seed, device)``; returns a ``Trainer``.
        tuned: by environment id, the options that differ from the config's defaults there.

    Raises:
        InputError: the name is another algorithm's, or the config is not an ``AgentConfig``.
    """
    if not name.isidentifier():
        raise InputError(f"algorithm {name!r}: a name is one word, for instance reinforce")
    if not (isinstance(config_type, type) and issubclass(config_type, AgentConfig)):
        raise InputError(f"algorithm {name}: its config must be a subclass of AgentConfig")
    if not config_type.__dataclass_params__.frozen or config_type is AgentConfig:  # type: ignore[attr-defined]  # not in typeshed
        raise InputError(f"algorithm {name}: its config must be a frozen dataclass of its own")
    known = _registered.get(name)
    if name in BUILT_IN and BUILT_IN[name] != make_trainer.__module__:
        raise InputError(f"algorithm {name} is one of ours: call yours otherwise")
    if known is not None and known.make_trainer.__module__ != make_trainer.__module__:
        raise InputError(
            f"algorithm {name} is registered by {known.make_trainer.__module__} already, and"
            f" {make_trainer.__module__} wants the name as well: rename one of them"
        )
    _registered[name] = Algorithm(name, config_type, make_trainer, dict(tuned or {}))


def find_algorithm(name: str) -> Algorithm:
    """The algorithm of that name; ``module:name`` imports the module that registers it.

    Raises:
        InputError: nobody registered it, or its module cannot be imported.
    """
    module, _, word = name.rpartition(":")
    if module:
        import_module(module, "algorithm")
    elif word not in _registered and word in BUILT_IN:
        importlib.import_module(BUILT_IN[word])
    if word not in _registered:
        if module:
            raise InputError(
                f"`algorithm` {name}: module {module} registers no algorithm {word}; it should call"
                f' labs.register_algorithm("{word}", ...)'
            )
        raise InputError(
            f"`algorithm` {name} is unknown: use {', '.join(BUILT_IN)}, or module:name for one that"
            " a module of your own registers"
        )
    return _registered[word]


def agent_config(algorithm: str = AgentConfig.algorithm, **options: Any) -> AgentConfig:
    """The config of an algorithm; options that are left out have tuned values.

    Raises:
        InputError: the algorithm is unknown, has no such option, or the option has no effect.
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
    return f"`{name}` is no option of `algorithm` {algorithm}"
