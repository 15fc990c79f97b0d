"""PPO and DQN as registered algorithms: options, tuned values, and their training loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from labs.rl.agents.config import AgentConfig, register_algorithm
from labs.rl.agents.dqn import DQN, DQNConfig
from labs.rl.agents.learner import idle_layers
from labs.rl.agents.networks.base import Activation, Spaces, is_image
from labs.rl.agents.ppo import PPO, PPOConfig
from labs.rl.agents.segments import Segment
from labs.rl.agents.trainer import Rollouts
from labs.runtime.errors import InputError


@dataclass(frozen=True)
class PPOAgentConfig(PPOConfig, AgentConfig):
    """Options of PPO's training.

    Raises:
        InputError: a value is out of range, or two contradict each other.
    """

    algorithm: str = "ppo"
    total_steps: int = 1_000_000
    batch_size: int = 256
    hidden_sizes: tuple[int, ...] = (128, 128)
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        AgentConfig.__post_init__(self)
        PPOConfig.__post_init__(self)
        if self.batch_size > self.rows:
            raise InputError(
                f"`batch_size` {self.batch_size} is larger than the {self.rows} steps that are"
                f" collected per update: use at most {self.rows}"
            )

    def idle_options(self) -> Mapping[str, str]:
        """``action_std_end`` without the schedule, and the options of ``idle_layers``."""
        idle = idle_layers(self)
        if self.action_std != "decay":
            idle["action_std_end"] = "it is used only with `action_std` decay"
        return idle


@dataclass(frozen=True)
class DQNAgentConfig(DQNConfig, AgentConfig):
    """Options of DQN's training.

    Raises:
        InputError: a value is out of range, or two contradict each other.
    """

    algorithm: str = "dqn"
    segment_length: int = 8
    hidden_sizes: tuple[int, ...] = (128, 64)
    activation: Activation = "relu"
    max_grad_norm: float = 10.0

    def __post_init__(self) -> None:
        AgentConfig.__post_init__(self)
        DQNConfig.__post_init__(self)
        if self.segment_length < self.n_step:
            raise InputError(
                f"`segment_length` {self.segment_length} is shorter than `n_step` {self.n_step}:"
                f" use at least {self.n_step}"
            )

    def idle_options(self) -> Mapping[str, str]:
        """``target_interval`` beside ``target_rate``, and the options of ``idle_layers``."""
        idle = idle_layers(self)
        if self.target_rate is not None:
            idle["target_interval"] = (
                "with `target_rate` the target network changes after every step"
            )
        return idle

    def note(self) -> str | None:
        """A sentence if the run ends before the first gradient step."""
        segments = -(-self.learning_starts // self.rows)
        if segments * self.rows < self.total_steps:
            return None
        return (
            f"the agent will not learn: `total_steps` {self.total_steps} ends before `learning_starts`"
            f" {self.learning_starts}"
        )


class PPOTrainer:
    """On-policy: collect a segment with the newest parameters, learn from it, discard it."""

    def __init__(self, learner: PPO) -> None:
        self.learner = learner

    def collect(self, rollouts: Rollouts, progress: float) -> Segment:
        """One segment of all environments, collected with the newest parameters."""
        return rollouts.gather(self.learner.actor_parameters(), self.learner.version)

    def learn(self, segment: Segment, step: int, progress: float) -> dict[str, float]:
        """All epochs of an update on the segment."""
        return self.learner.update(segment, progress)

    def state(self) -> dict[str, Any]:
        """The learner's state."""
        return {"learner": self.learner.state()}

    def load(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned."""
        self.learner.load(state["learner"])


class DQNTrainer:
    """Off-policy: collect into the replay, one gradient step per ``update_interval`` env steps."""

    def __init__(self, learner: DQN) -> None:
        self.learner = learner
        self._owed = 0
        """Environment steps since the last gradient step, fewer than ``update_interval``."""

    def collect(self, rollouts: Rollouts, progress: float) -> Segment:
        """The segment that is ready first; new ones are collected with the present epsilon."""
        learner = self.learner
        epsilon = learner.config.epsilon(progress)
        return rollouts.next(learner.actor_parameters(), learner.version, epsilon)

    def learn(self, segment: Segment, step: int, progress: float) -> dict[str, float]:
        """Store the segment, and take the gradient steps that are due for its steps."""
        learner, config = self.learner, self.learner.config
        metrics = {
            "train/epsilon": config.epsilon(progress),
            "train/parameter_age": float(learner.version - segment.version),
        }
        learner.add(segment)
        if learner.replay.size < config.batch_size or step < config.learning_starts:
            return metrics
        count, self._owed = divmod(self._owed + segment.num_steps, config.update_interval)
        if count:
            metrics |= learner.update(count, progress)
        return metrics

    def state(self) -> dict[str, Any]:
        """The learner's state, and the steps since its last gradient step."""
        return {"learner": self.learner.state(), "owed": self._owed}

    def load(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned."""
        self.learner.load(state["learner"])
        self._owed = state["owed"]


def make_ppo(config: PPOAgentConfig, spaces: Spaces, seed: int, device: torch.device) -> PPOTrainer:
    """PPO for an environment of these spaces.

    Raises:
        InputError: the actions are discrete, and an option of continuous ones is set; or observations are
            images, and an option of vectors is set.
    """
    if spaces.discrete:
        names = ("action_std", "action_std_start", "action_std_end")
        _require_defaults(config, names, f"the actions of {config.env} are discrete")
    _require_use_of_vector_options(config, spaces)
    return PPOTrainer(PPO(config, spaces, seed, device))


def make_dqn(config: DQNAgentConfig, spaces: Spaces, seed: int, device: torch.device) -> DQNTrainer:
    """DQN for an environment of these spaces.

    Raises:
        InputError: the actions are continuous; or observations are images, and an option of vectors is
            set.
    """
    if not spaces.discrete:
        raise InputError(
            f"`algorithm` dqn needs discrete actions and {config.env} has continuous ones: use"
            " `algorithm` ppo"
        )
    _require_use_of_vector_options(config, spaces)
    return DQNTrainer(DQN(config, spaces, seed, device))


def _require_use_of_vector_options(config: AgentConfig, spaces: Spaces) -> None:
    if is_image(spaces.observation_shape):
        reason = f"the observations of {config.env} are images, which are divided by 255"
        _require_defaults(config, ("normalize_observations",), reason)


def _require_defaults(config: AgentConfig, names: Sequence[str], reason: str) -> None:
    """Raise if an option without effect in this environment differs from its default."""
    for name in names:
        value = getattr(config, name)
        if value != getattr(type(config), name):
            raise InputError(f"`{name}` {value} has no effect: {reason}")


register_algorithm(
    "ppo",
    PPOAgentConfig,
    make_ppo,
    tuned={
        "labs/NavigationGoal-v1": {
            "total_steps": 3_000_000,
            "envs_per_worker": 64,
            "segment_length": 64,
            "batch_size": 1024,
        },
        "labs/NavigationGoal-v0": {
            "total_steps": 3_000_000,
            "envs_per_worker": 64,
            "segment_length": 64,
            "batch_size": 1024,
            "frame_stack": 4,  # the folded bearing is ambiguous in a single observation
        },
        "CartPole-v1": {"total_steps": 200_000},
    },
)
register_algorithm(
    "dqn",
    DQNAgentConfig,
    make_dqn,
    tuned={
        "labs/NavigationGoal-v1": {
            "total_steps": 600_000,
            "envs_per_worker": 64,
            "batch_size": 256,
            "gamma": 0.98,
            "update_interval": 8,
        },
        "labs/NavigationGoal-v0": {
            "total_steps": 800_000,
            "envs_per_worker": 64,
            "batch_size": 256,
            "gamma": 0.98,
            "update_interval": 8,
            "frame_stack": 4,
            "reward_scale": 0.01,  # -100 and 500 are far outside of the Huber loss's quadratic part
        },
        "CartPole-v1": {
            "total_steps": 200_000,
            "update_interval": 5,
            "target_interval": 100,
        },
    },
)
