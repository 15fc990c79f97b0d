"""REINFORCE with a learned baseline (Williams, 1992; Sutton and Barto, 2018, section 13.4).

In the directory of this file: python .../train_agent.py reinforce:reinforce --env CartPole-v1
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn

from labs import AgentConfig, InputError, PolicySpec, Rollouts, Segment, Spaces, register_algorithm


@dataclass(frozen=True)
class ReinforceConfig(AgentConfig):
    """Options of REINFORCE; each is an option of the command line."""

    total_steps: int = 300_000
    envs_per_worker: int = 16
    segment_length: int = 64

    learning_rate: float = 5e-3
    """Step size of Adam."""

    baseline_steps: int = 10
    """Gradient steps of the baseline for each one of the policy."""

    gamma: float = 0.99
    """Discount of future rewards, per step."""

    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learning_rate <= 0:
            raise InputError(f"`learning_rate` {self.learning_rate} must be above 0")


class Reinforce:
    """The learner (whose parameters act) and the trainer (which collects and learns) in one."""

    def __init__(
        self, config: ReinforceConfig, spaces: Spaces, seed: int, device: torch.device
    ) -> None:
        if not spaces.discrete or len(spaces.observation_shape) != 1:
            raise InputError(f"`env` {config.env}: reinforce needs vectors and discrete actions")
        (size,), actions, hidden = spaces.observation_shape, spaces.action_size, config.hidden_sizes
        self.config, self.device, self.version, self.learner = config, device, 0, self
        self.spec = PolicySpec((size,), actions, hidden, "tanh", "categorical")
        torch.manual_seed(seed)
        self.policy, self.baseline = (
            perceptron(size, *hidden, actions),
            perceptron(size, *hidden, 1),
        )
        self.networks = nn.ModuleList([self.policy, self.baseline]).to(device)
        self.optimizer = torch.optim.Adam(self.networks.parameters(), config.learning_rate)

    def actor_parameters(self) -> np.ndarray:
        """What acts, flat: each layer's weight ``[inputs, outputs]``, then its bias."""
        layers = [layer for layer in self.policy if isinstance(layer, nn.Linear)]
        parts = [part.flatten() for layer in layers for part in (layer.weight.T, layer.bias)]
        return torch.cat(parts).detach().cpu().numpy()

    def collect(self, rollouts: Rollouts, progress: float) -> Segment:
        """Steps of all environments, chosen by the newest policy."""
        return rollouts.gather(self.actor_parameters(), self.version)

    def learn(self, segment: Segment, step: int, progress: float) -> dict[str, float]:
        """One step of the policy along A * grad log pi, with A = return - baseline."""
        observations = torch.from_numpy(segment.observations).to(self.device)
        actions = torch.from_numpy(segment.actions).to(self.device)
        returns = torch.from_numpy(self.returns(segment)).to(self.device)
        with torch.no_grad():
            advantages = returns - self.baseline(observations).squeeze(-1)
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        policy = torch.distributions.Categorical(logits=self.policy(observations))
        self.descend(-(policy.log_prob(actions) * advantages).mean())
        for _ in range(self.config.baseline_steps):
            error = (self.baseline(observations).squeeze(-1) - returns).square().mean()
            self.descend(error)
        self.version += 1
        return {"train/entropy": policy.entropy().mean().item(), "train/value_loss": error.item()}

    def returns(self, segment: Segment) -> np.ndarray:
        """Rewards to go; where an episode was cut, the baseline estimates the rest of it."""
        with torch.no_grad():
            after = torch.from_numpy(segment.next_observations).to(self.device)
            rest = self.baseline(after).squeeze(-1).cpu().numpy()
        returns, following = np.empty_like(rest), rest[-1]
        for t in reversed(range(len(returns))):
            following = np.where(segment.truncated[t], rest[t], following)
            following = np.where(segment.terminated[t], 0, following)
            returns[t] = following = segment.rewards[t] + self.config.gamma * following
        return returns

    def descend(self, loss: torch.Tensor) -> None:
        """One gradient step of the network that the loss depends on."""
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def state(self) -> dict[str, Any]:
        """Everything that a resumed training needs."""
        states = {"networks": self.networks.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {"version": self.version, **states}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from ``state()``."""
        self.version = state["version"]
        self.networks.load_state_dict(state["networks"])
        self.optimizer.load_state_dict(state["optimizer"])


def perceptron(*sizes: int) -> nn.Sequential:
    """Linear layers with tanh between them."""
    layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.Tanh())]
    return nn.Sequential(*layers[:-1])


register_algorithm("reinforce", ReinforceConfig, Reinforce)
