"""Everything that decides how an agent is trained."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from labs.rl.agents.dqn import DQNConfig
from labs.rl.agents.learner import LearnerConfig, require
from labs.rl.agents.networks import Activation
from labs.rl.agents.ppo import PPOConfig
from labs.rl.envs.settings import EnvSettings
from labs.runtime.errors import InputError

Algorithm = Literal["ppo", "dqn"]

DEFAULTS: dict[Algorithm, dict[str, Any]] = {
    "ppo": {
        "total_steps": 1_000_000,
        "envs_per_worker": 16,
        "segment_length": 128,
        "learning_rate": 1e-3,
        "batch_size": 256,
        "hidden_sizes": (128, 128),
        "activation": "relu",
    },
    "dqn": {
        "total_steps": 500_000,
        "envs_per_worker": 16,
        "segment_length": 8,
        "learning_rate": 1e-3,
        "batch_size": 128,
        "hidden_sizes": (128, 64),
        "activation": "relu",
        "max_grad_norm": 10.0,
    },
}
"""What an algorithm uses where neither the command line nor ``TUNED`` says otherwise."""

TUNED: dict[tuple[Algorithm, str], dict[str, Any]] = {
    ("ppo", "labs/NavigationGoal-v1"): {
        "total_steps": 3_000_000,
        "envs_per_worker": 64,
        "segment_length": 64,
        "batch_size": 1024,
    },
    ("ppo", "labs/NavigationGoal-v0"): {
        "total_steps": 3_000_000,
        "envs_per_worker": 64,
        "segment_length": 64,
        "batch_size": 1024,
        "frame_stack": 4,  # the folded bearing tells left from behind only over time
    },
    ("ppo", "CartPole-v1"): {"total_steps": 200_000},
    ("dqn", "labs/NavigationGoal-v1"): {
        "total_steps": 600_000,
        "envs_per_worker": 64,
        "batch_size": 256,
        "gamma": 0.98,
        "update_interval": 8,
    },
    ("dqn", "labs/NavigationGoal-v0"): {
        "total_steps": 800_000,
        "envs_per_worker": 64,
        "batch_size": 256,
        "gamma": 0.98,
        "update_interval": 8,
        "frame_stack": 4,
        "reward_scale": 0.01,  # from -100 and 500 to where the Huber loss is still square
    },
    ("dqn", "CartPole-v1"): {
        "total_steps": 200_000,
        "update_interval": 5,
        "target_interval": 100,
    },
}
"""What differs from ``DEFAULTS`` on an environment, by algorithm and environment id."""


@dataclass(frozen=True)
class AgentConfig(PPOConfig, DQNConfig):
    """How an agent is trained. An option left out has a value tuned for algorithm and environment.

    Raises:
        InputError: a value is out of range, or two contradict each other.
    """

    algorithm: Algorithm = "ppo"
    """Proximal policy optimisation, or deep Q-learning (discrete actions only)."""

    env: str = "labs/NavigationGoal-v1"
    """A gymnasium environment with a flat or discrete observation; module:id imports the module."""

    env_kwargs: tuple[str, ...] = ()
    """Keyword arguments of the environment, each key=value, for instance gravity=-5.0."""

    wrapper: tuple[str, ...] = ()
    """Wrappers of the environment, each module:Class; the first is the innermost."""

    seed: int = 0
    """Everything random derives from it."""

    total_steps: int | None = None
    """Environment steps of training, all environments counted together."""

    num_workers: int = 0
    """Ray actors that collect rollouts. Without any, this process does it between its updates."""

    envs_per_worker: int | None = None
    """Environments that each worker steps together."""

    segment_length: int | None = None
    """Steps of every environment that a worker collects at a time."""

    frame_stack: int | None = None
    """Observations in a row that the agent sees as one."""

    eval_interval: int | None = None
    """Environment steps between two evaluations. The default is a twentieth of the run."""

    eval_episodes: int = 200
    """Episodes per evaluation, which takes the best action every time."""

    report_interval: int | None = None
    """Environment steps between two points of the training curves. The default is a hundredth."""

    device: str = "cpu"
    """Where the agent learns: cpu, cuda or auto. Networks of this size are fastest on the CPU."""

    learning_rate: float | None = None  # type: ignore[assignment]
    """Step size of Adam."""

    batch_size: int | None = None  # type: ignore[assignment]
    """Transitions per gradient step."""

    gamma: float | None = None  # type: ignore[assignment]
    """Discount of future rewards, per step."""

    hidden_sizes: tuple[int, ...] | None = None  # type: ignore[assignment]
    """Widths of the hidden layers."""

    activation: Activation | None = None  # type: ignore[assignment]
    """What the hidden layers apply."""

    max_grad_norm: float | None = None  # type: ignore[assignment]
    """Gradients that are longer are scaled down to this length."""

    reward_scale: float | None = None  # type: ignore[assignment]
    """The learner sees rewards times this; reported returns are the environment's own."""

    entropy_coefficient: float | None = None  # type: ignore[assignment]
    """PPO: weight of the entropy in the objective."""

    normalize_observations: bool | None = None  # type: ignore[assignment]
    """Scale observations by their running mean and standard deviation."""

    n_step: int | None = None  # type: ignore[assignment]
    """DQN: rewards counted before a target bootstraps."""

    target_interval: int | None = None  # type: ignore[assignment]
    """DQN: gradient steps between two copies of the parameters to the target network."""

    update_interval: int | None = None  # type: ignore[assignment]
    """DQN: environment steps per gradient step, all environments counted together."""

    def __post_init__(self) -> None:
        filled = self.resolved_values()
        for name in (
            "total_steps",
            "envs_per_worker",
            "segment_length",
            "frame_stack",
            "eval_interval",
            "eval_episodes",
            "report_interval",
        ):
            require(name, filled[name], filled[name] >= 1, "100")
        require("num_workers", self.num_workers, self.num_workers >= 0, "2")
        require("seed", self.seed, self.seed >= 0, "0")
        self.env_settings()
        self.learner_config()
        length = filled["segment_length"]
        if self.algorithm == "dqn" and length < filled["n_step"]:
            raise InputError(
                f"`segment_length` {length} is shorter than `n_step` {filled['n_step']}:"
                f" use at least {filled['n_step']}"
            )
        rows = length * filled["envs_per_worker"] * max(1, self.num_workers)
        if self.algorithm == "ppo" and filled["batch_size"] > rows:
            raise InputError(
                f"`batch_size` {filled['batch_size']} is larger than the {rows} steps that are"
                f" collected per update: use at most {rows}"
            )

    def resolved_values(self) -> dict[str, Any]:
        """All fields by name, those left out replaced by tuned or general defaults."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        learner = PPOConfig if self.algorithm == "ppo" else DQNConfig
        general = {field.name: field.default for field in dataclasses.fields(learner)}
        general |= {"frame_stack": 1}
        general |= DEFAULTS[self.algorithm] | TUNED.get((self.algorithm, self.env), {})
        filled = {k: general.get(k) if v is None else v for k, v in values.items()}
        for name, parts in (("eval_interval", 20), ("report_interval", 100)):
            if filled[name] is None:
                filled[name] = max(1, filled["total_steps"] // parts)
        return filled

    def resolve(self) -> AgentConfig:
        """The same configuration with every value written out."""
        return dataclasses.replace(self, **self.resolved_values())

    def env_settings(self) -> EnvSettings:
        """The environment with its keyword arguments and wrappers.

        Raises:
            InputError: a keyword argument is not of the form ``key=value``.
        """
        return EnvSettings(self.env, self.env_kwargs, self.wrapper)

    def learner_config(self) -> LearnerConfig:
        """The part that the learner sees: a ``PPOConfig`` or a ``DQNConfig``.

        Raises:
            InputError: a hyperparameter is out of range.
        """
        learner = PPOConfig if self.algorithm == "ppo" else DQNConfig
        values = self.resolved_values()
        return learner(**{field.name: values[field.name] for field in dataclasses.fields(learner)})
