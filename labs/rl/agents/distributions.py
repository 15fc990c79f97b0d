"""The distributions of actions: sampling, log-probability, entropy, and their gradients.

Both classes share one interface. ``outputs`` are what a policy network returns for ``n``
observations. The gradients are written by hand: at these sizes that takes a fifth of the time of
automatic differentiation.
"""

from __future__ import annotations

import math

import numpy as np
import torch

HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


class Categorical:
    """One of ``k`` actions with the probabilities softmax(outputs)."""

    def __init__(self, outputs: torch.Tensor, log_std: torch.Tensor) -> None:
        """``outputs`` are logits ``[n, k]``; ``log_std`` is empty and not used."""
        self._log_probabilities = torch.log_softmax(outputs, 1)
        self._probabilities = self._log_probabilities.exp()

    def log_prob(self, actions: torch.Tensor) -> torch.Tensor:
        """float32 ``[n]`` for actions int64 ``[n]``."""
        return self._log_probabilities.gather(1, actions.unsqueeze(1)).squeeze(1)

    def entropy(self) -> torch.Tensor:
        """float32 ``[n]``, in nats."""
        return -(self._probabilities * self._log_probabilities).sum(1)

    def backward(
        self,
        actions: torch.Tensor,
        log_prob_gradient: torch.Tensor,
        entropy: torch.Tensor,
        entropy_gradient: float,
        log_std_gradient: torch.Tensor,
    ) -> torch.Tensor:
        """The loss's derivative by the outputs ``[n, k]``.

        With p = softmax(z): d log p_a / d z_j = [j = a] - p_j, and
        dH / d z_j = -p_j (log p_j + H).

        Args:
            actions: as for ``log_prob``.
            log_prob_gradient: the loss's derivative by each action's log-probability ``[n]``.
            entropy: what ``entropy()`` returned.
            entropy_gradient: the loss's derivative by each row's entropy, the same for all.
            log_std_gradient: overwritten with the derivative by ``log_std``; empty here.
        """
        # With g = log_prob_gradient [n, 1] and h = entropy_gradient:
        # dL / d z_j = g [j = a] - p_j (g + h (log p_j + H)), computed in one buffer [n, k].
        slope = self._log_probabilities + entropy.unsqueeze(1)
        slope = slope.mul_(-entropy_gradient).sub_(log_prob_gradient.unsqueeze(1))
        gradient = slope.mul_(self._probabilities)
        return gradient.scatter_add_(1, actions.unsqueeze(1), log_prob_gradient.unsqueeze(1))

    @staticmethod
    def sample(
        outputs: np.ndarray, log_std: np.ndarray, generator: np.random.Generator
    ) -> np.ndarray:
        """int64 ``[n]``: argmax of logits plus Gumbel noise, which is -log of an exponential."""
        noise = generator.standard_exponential(outputs.shape, dtype=np.float32)
        # A draw can be exactly 0 in float32, and its logarithm must be finite.
        return (outputs - np.log(np.maximum(noise, 1e-30))).argmax(1)

    @staticmethod
    def mode(outputs: np.ndarray) -> np.ndarray:
        """The most probable action, int64 ``[n]``."""
        return outputs.argmax(1)


class DiagonalGaussian:
    """Independent normal components with means ``outputs`` and one std for all observations."""

    def __init__(self, outputs: torch.Tensor, log_std: torch.Tensor) -> None:
        """``outputs`` ``[n, k]``, ``log_std`` ``[k]``."""
        self._mean = outputs
        self._log_std = log_std
        self._inverse_std = (-log_std).exp()

    def log_prob(self, actions: torch.Tensor) -> torch.Tensor:
        """float32 ``[n]`` for actions float32 ``[n, k]``."""
        z = (actions - self._mean) * self._inverse_std
        return (z.square() * -0.5 - self._log_std - HALF_LOG_TAU).sum(1)

    def entropy(self) -> torch.Tensor:
        """float32 ``[n]``, in nats: the same for every observation."""
        return (self._log_std + (HALF_LOG_TAU + 0.5)).sum().expand(len(self._mean))

    def backward(
        self,
        actions: torch.Tensor,
        log_prob_gradient: torch.Tensor,
        entropy: torch.Tensor,
        entropy_gradient: float,
        log_std_gradient: torch.Tensor,
    ) -> torch.Tensor:
        """See ``Categorical.backward``; also writes the derivative by ``log_std`` ``[k]``.

        With z = (a - mean) / std: d log p / d mean = z / std, d log p / d log std = z^2 - 1 and
        dH / d log std = 1 in every row.
        """
        z = (actions - self._mean) * self._inverse_std
        weights = log_prob_gradient.unsqueeze(1)
        torch.sum((z.square() - 1) * weights, 0, out=log_std_gradient)
        log_std_gradient.add_(entropy_gradient * len(z))
        return z.mul_(self._inverse_std).mul_(weights)

    @staticmethod
    def sample(
        outputs: np.ndarray, log_std: np.ndarray, generator: np.random.Generator
    ) -> np.ndarray:
        """float32 ``[n, k]``, not clipped to the bounds of the action space."""
        noise = generator.standard_normal(outputs.shape, dtype=np.float32)
        return outputs + noise * np.exp(log_std)

    @staticmethod
    def mode(outputs: np.ndarray) -> np.ndarray:
        """The mean, float32 ``[n, k]``."""
        return outputs
