"""Multi-layer perceptrons with hand-written gradients.

At the sizes of these agents (128 to 1,024 rows, layers of 64) a training step is mostly overhead:
automatic differentiation records about a hundred small operations. Here the layers are views of the
flat parameters, and every gradient is written straight into its slice of the flat gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch

from labs.rl.agents.networks.base import Activation

Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Per layer a weight ``[inputs, outputs]`` and a bias ``[outputs]``."""


class MLP:
    """An MLP in float32: hidden layers apply ``activation``, the last layer is linear."""

    def __init__(self, sizes: Sequence[int], activation: Activation = "tanh") -> None:
        """``sizes`` are the widths from the input to the output, at least two."""
        self.sizes = tuple(sizes)
        self.activation = activation
        self.num_parameters = sum((n + 1) * m for n, m in pairwise(sizes))
        self._layers: Layers = []
        self._gradients: Layers = []
        self._activations: list[torch.Tensor] = []

    def views(self, flat: torch.Tensor) -> Layers:
        """The layers as views of ``flat`` ``[num_parameters]``: weight then bias, layer by layer."""
        layers, start = [], 0
        for inputs, outputs in pairwise(self.sizes):
            middle = start + inputs * outputs
            end = middle + outputs
            layers.append((flat[start:middle].view(inputs, outputs), flat[middle:end]))
            start = end
        return layers

    def initial_parameters(
        self, generator: torch.Generator, output_gain: float = 1.0, hidden_biases: bool = False
    ) -> torch.Tensor:
        """Orthogonal weights (Saxe et al., 2014) and biases of 0, float32 ``[num_parameters]``.

        Hidden layers have a gain of sqrt(2), the last one ``output_gain``. With ``hidden_biases`` the
        biases are uniform within 1 / sqrt(inputs), for value functions: a tanh network without biases
        is odd, so with observations around 0 its mean output depends on the output bias alone, which
        reaches the mean return only at the speed of the learning rate. (CartPole after 5,000 steps of
        PPO without reward normalisation, 8 seeds: mean return 50 without, 390 with.)
        """
        flat = torch.zeros(self.num_parameters)
        layers = self.views(flat)
        for i, (weight, bias) in enumerate(layers):
            hidden = i < len(layers) - 1
            gain = math.sqrt(2) if hidden else output_gain
            torch.nn.init.orthogonal_(weight, gain, generator=generator)
            if hidden and hidden_biases:
                bound = 1 / math.sqrt(len(weight))
                bias.uniform_(-bound, bound, generator=generator)
        return flat

    def bind(self, parameters: torch.Tensor, gradient: torch.Tensor | None = None) -> None:
        """See ``Network.bind``."""
        self._layers = self.views(parameters)
        self._gradients = [] if gradient is None else self.views(gradient)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs ``[n, sizes[-1]]`` for inputs ``[n, sizes[0]]``."""
        return self._forward(inputs)[-1]

    def forward_for_backward(self, inputs: torch.Tensor, rows: int | None = None) -> torch.Tensor:
        """Outputs; keeps the input and the hidden activations of the first ``rows``."""
        activations = self._forward(inputs)
        outputs = activations.pop()  # backward does not need them: the last layer is linear
        self._activations = activations if rows is None else [a[:rows] for a in activations]
        return outputs

    def _forward(self, inputs: torch.Tensor) -> list[torch.Tensor]:
        """The input, every hidden activation and the output."""
        activations, last = [inputs], len(self._layers) - 1
        for i, (weight, bias) in enumerate(self._layers):
            if i < last and self.activation == "tanh":
                hidden = _tanh_layer(bias, activations[-1], weight)
            else:
                hidden = torch.addmm(bias, activations[-1], weight)
                if i < last:
                    hidden.relu_()
            activations.append(hidden)
        return activations

    def backward(self, output_gradient: torch.Tensor) -> None:
        """Back-propagation into the bound gradient, which is overwritten."""
        # delta is the loss's derivative by layer i's output before its activation, [n, outputs].
        delta, activations = output_gradient, self._activations
        for i in range(len(self._layers) - 1, -1, -1):
            weight_gradient, bias_gradient = self._gradients[i]
            torch.mm(activations[i].t(), delta, out=weight_gradient)
            torch.sum(delta, 0, out=bias_gradient)
            if i == 0:  # nobody needs the derivative by the observations
                return
            delta = delta @ self._layers[i][0].t()
            # Both derivatives follow from the activation's output, so the input need not be kept.
            if self.activation == "tanh":
                delta = torch.ops.aten.tanh_backward(delta, activations[i])
            else:
                delta = torch.ops.aten.threshold_backward(delta, activations[i], 0)


def _tanh_layer(bias: torch.Tensor, inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """tanh(x) of x = inputs weight + bias, as 2 sigmoid(2 x) - 1: the same to 2e-7.

    Without AVX-512 PyTorch's tanh takes three times as long as its sigmoid (29 us and 9 for 128 x 64
    on an EPYC), and the factor 2 costs nothing in the product.
    """
    doubled = torch.addmm(bias, inputs, weight, beta=2, alpha=2)
    return doubled.sigmoid_().mul_(2).sub_(1)
