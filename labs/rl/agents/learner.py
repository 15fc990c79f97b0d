"""What DQN and PPO have in common."""

from __future__ import annotations

import math
from dataclasses import dataclass

from labs.rl.agents.networks.base import Activation
from labs.runtime.errors import InputError


@dataclass(frozen=True)
class LearnerConfig:
    """Hyperparameters that both algorithms have.

    Raises:
        InputError: a value is out of range.
    """

    learning_rate: float = 1e-3
    """Step size of Adam."""

    anneal: bool = True
    """Let the learning rate fall linearly to 0 over the run."""

    batch_size: int = 128
    """Transitions per gradient step."""

    gamma: float = 0.99
    """Discount of future rewards, per step."""

    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers."""

    activation: Activation = "tanh"
    """What the hidden layers apply."""

    network: str | None = None
    """module:function that makes the network: given (observation_shape, outputs), a torch module."""

    normalize_observations: bool = True
    """Scale observations by their running mean and standard deviation; images are divided by 255."""

    max_grad_norm: float = 0.5
    """Gradients that are longer are scaled down to this length."""

    reward_scale: float = 1.0
    """The learner sees rewards times this; reported returns are the environment's own."""

    def __post_init__(self) -> None:
        require("learning_rate", self.learning_rate, self.learning_rate > 0, "0.001")
        require("batch_size", self.batch_size, self.batch_size >= 1, "128")
        require("gamma", self.gamma, 0 <= self.gamma <= 1, "0.99")
        require("max_grad_norm", self.max_grad_norm, self.max_grad_norm > 0, "0.5")
        require("reward_scale", self.reward_scale, self.reward_scale > 0, "1")
        require(
            "hidden_sizes",
            " ".join(map(str, self.hidden_sizes)),
            all(size >= 1 for size in self.hidden_sizes),
            "64 64",
        )


def idle_layers(config: LearnerConfig) -> dict[str, str]:
    """The options of our own networks where ``network`` names another, each with the reason."""
    if config.network is None:
        return {}
    return dict.fromkeys(("hidden_sizes", "activation"), "`network` makes its own layers")


def require(field: str, value: object, holds: bool, example: str) -> None:
    """Refuse a value of a field.

    Raises:
        InputError: ``holds`` is false, or the value is a number that is not finite.
    """
    if isinstance(value, float) and not math.isfinite(value):
        holds = False
    if not holds:
        raise InputError(f"`{field}` {value} is out of range: use for instance {example}")
