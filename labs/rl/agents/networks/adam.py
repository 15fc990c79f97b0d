"""The optimizer of flat parameters."""

from __future__ import annotations

import math
from typing import Any

import torch

EPSILON = 1e-5
"""Added to the denominator. PyTorch's default is 1e-8; implementations of PPO use 1e-5."""


class Adam:
    """Adam (Kingma and Ba, 2015) on one flat parameter tensor, with clipping of the gradient's norm."""

    def __init__(self, parameters: torch.Tensor, epsilon: float = EPSILON) -> None:
        self.parameters = parameters
        self.gradient = torch.zeros_like(parameters)
        self._mean = torch.zeros_like(parameters)
        self._square = torch.zeros_like(parameters)
        self._epsilon = epsilon
        self.steps = 0

    def step(self, learning_rate: float, max_norm: float, beta1: float = 0.9) -> None:
        """One step with ``gradient``, which is scaled down to ``max_norm`` if its norm is larger."""
        beta2 = 0.999
        self.steps += 1
        norm = float(torch.linalg.vector_norm(self.gradient))
        if norm > max_norm:
            self.gradient.mul_(max_norm / norm)
        self._mean.lerp_(self.gradient, 1 - beta1)
        self._square.mul_(beta2).addcmul_(self.gradient, self.gradient, value=1 - beta2)
        # With c = sqrt(1 - beta2^t), m / (sqrt(v) / c + eps) = c m / (sqrt(v) + c eps): the bias
        # correction of v becomes a factor of two numbers, which saves a pass over the parameters.
        correction = math.sqrt(1 - beta2**self.steps)
        scale = self._square.sqrt().add_(self._epsilon * correction)
        rate = learning_rate * correction / (1 - beta1**self.steps)
        self.parameters.addcdiv_(self._mean, scale, value=-rate)

    def state(self) -> dict[str, Any]:
        """The state for ``load``. The tensors are not copied."""
        return {"mean": self._mean, "square": self._square, "steps": self.steps}

    def load(self, state: dict[str, Any]) -> None:
        """Restore what ``state`` returned."""
        self._mean.copy_(state["mean"])
        self._square.copy_(state["square"])
        self.steps = int(state["steps"])
