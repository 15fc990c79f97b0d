"""The options that DQN and PPO share."""

from __future__ import annotations

import math
from dataclasses import dataclass

from labs.rl.agents.networks.base import Activation
from labs.runtime.errors import InputError


@dataclass(frozen=True)
class LearnerConfig:
    """Hyperparameters of both DQN and PPO.

    Raises:
        InputError: a value is out of range.
    """

    learning_rate: float = 1e-3
    """Step size of Adam."""

    anneal: bool = True
    """Decrease the learning rate linearly to 0 over the run."""

    batch_size: int = 128
    """Transitions per gradient step."""

    gamma: float = 0.99
    """Discount of future rewards, per step."""

    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers."""

    activation: Activation = "tanh"
    """Activation function of the hidden layers."""

    network: str | None = None
    """module:function that makes the network: takes (observation_shape, outputs), returns a torch module."""

    normalize_observations: bool = True
    """Scale observations by their running mean and standard deviation; images are divided by 255."""

    max_grad_norm: float = 0.5
    """Gradients with a larger norm are scaled down to this norm."""

    reward_scale: float = 1.0
    """Factor on the rewards that the learner sees; reported returns are not scaled."""

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
    """The options of the built-in networks that ``network`` makes useless, each with the reason."""
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
