"""The options that DQN and PPO share."""

from __future__ import annotations

from dataclasses import dataclass

from labs.rl.agents.networks.base import Activation
from labs.runtime.errors import require


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
    """Gradients are clipped to this norm."""

    reward_scale: float = 1.0
    """Factor on the rewards that the learner sees; reported returns are not scaled."""

    def __post_init__(self) -> None:
        require("batch_size", self.batch_size, self.batch_size >= 1, "1 or more")
        require("gamma", self.gamma, 0 <= self.gamma <= 1, "from 0 to 1, for instance 0.99")
        for name in ("learning_rate", "max_grad_norm", "reward_scale"):
            require(name, getattr(self, name), getattr(self, name) > 0, "above 0")
        sizes = " ".join(map(str, self.hidden_sizes))
        whole = all(size >= 1 for size in self.hidden_sizes)
        require("hidden_sizes", sizes, whole, "numbers of 1 or more, for instance 64 64")


def idle_layers(config: LearnerConfig) -> dict[str, str]:
    """The options of the built-in networks that ``network`` makes useless, each with the reason."""
    if config.network is None:
        return {}
    return dict.fromkeys(("hidden_sizes", "activation"), "`network` makes its own layers")
