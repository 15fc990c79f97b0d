"""Multi-layer perceptrons on one flat parameter array, with their gradients written out.

At the sizes of these agents (128 to 1,024 rows, layers of 64) a training step is mostly overhead:
automatic differentiation records about a hundred small operations, and an optimiser visits a dozen
small tensors. Here a network is a view of one flat tensor, its gradient another: a step of PPO
takes half the time, the optimiser and the gradient's norm are a handful of operations, and the
parameters travel to the rollout workers as one array.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch

Activation = Literal["tanh", "relu"]
Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Per layer a weight ``[inputs, outputs]`` and a bias ``[outputs]``."""


class MLP:
    """The architecture of a perceptron; its parameters are handed to every call.

    Hidden layers apply ``activation``, the last layer is linear. All tensors are float32.
    """

    def __init__(self, sizes: Sequence[int], activation: Activation = "tanh") -> None:
        """``sizes`` are the widths from the input to the output, at least two."""
        self.sizes = tuple(sizes)
        self.activation = activation
        self.num_parameters = sum((n + 1) * m for n, m in pairwise(sizes))

    def views(self, flat: torch.Tensor) -> Layers:
        """The layers as views of ``flat`` ``[num_parameters]``: weight then bias, layer by layer."""
        layers, start = [], 0
        for inputs, outputs in pairwise(self.sizes):
            middle = start + inputs * outputs
            end = middle + outputs
            layers.append((flat[start:middle].view(inputs, outputs), flat[middle:end]))
            start = end
        return layers

    def initialize(
        self,
        flat: torch.Tensor,
        generator: torch.Generator,
        output_gain: float = 1.0,
        hidden_biases: bool = False,
    ) -> None:
        """Fill ``flat``: orthogonal weights (Saxe et al., 2014) and biases of 0.

        Hidden layers have a gain of sqrt(2); a small ``output_gain`` makes a first policy that is
        close to uniform. ``hidden_biases`` are uniform within 1 / sqrt(inputs) instead of 0, for
        values: without them, and with observations around 0, a tanh network is odd, and the one
        output bias must climb to the returns' mean at the learning rate's pace. (CartPole after
        5,000 steps of PPO without reward normalisation, 8 seeds: mean return 50 without, 390 with.)
        """
        layers = self.views(flat)
        for i, (weight, bias) in enumerate(layers):
            hidden = i < len(layers) - 1
            gain = math.sqrt(2) if hidden else output_gain
            torch.nn.init.orthogonal_(weight, gain, generator=generator)
            bias.zero_()
            if hidden and hidden_biases:
                bound = 1 / math.sqrt(len(weight))
                bias.uniform_(-bound, bound, generator=generator)

    def forward(self, layers: Layers, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs ``[n, sizes[-1]]`` for inputs ``[n, sizes[0]]``."""
        return self.forward_with_activations(layers, inputs)[-1]

    def forward_with_activations(self, layers: Layers, inputs: torch.Tensor) -> list[torch.Tensor]:
        """The input, every hidden activation and the output: what ``backward`` needs."""
        activations = [inputs]
        for i, (weight, bias) in enumerate(layers):
            hidden = torch.addmm(bias, activations[-1], weight)
            if i < len(layers) - 1:
                hidden = hidden.tanh_() if self.activation == "tanh" else hidden.relu_()
            activations.append(hidden)
        return activations

    def backward(
        self,
        layers: Layers,
        activations: list[torch.Tensor],
        output_gradient: torch.Tensor,
        gradients: Layers,
    ) -> None:
        """Write the parameters' gradients into ``gradients`` (back-propagation).

        Args:
            activations: from ``forward_with_activations``.
            output_gradient: the loss's derivative by the outputs ``[n, sizes[-1]]``.
            gradients: views of a flat gradient; what they held is overwritten.
        """
        delta = output_gradient
        for i in range(len(layers) - 1, -1, -1):
            weight_gradient, bias_gradient = gradients[i]
            torch.mm(activations[i].t(), delta, out=weight_gradient)
            torch.sum(delta, 0, out=bias_gradient)
            if i == 0:
                return
            delta = delta @ layers[i][0].t()
            if self.activation == "tanh":
                delta = torch.ops.aten.tanh_backward(delta, activations[i])
            else:
                delta = torch.ops.aten.threshold_backward(delta, activations[i], 0)


class Adam:
    """Adam (Kingma and Ba, 2015) on one flat parameter tensor, with its gradient's norm clipped."""

    def __init__(self, parameters: torch.Tensor, epsilon: float = 1e-5) -> None:
        self.parameters = parameters
        self.gradient = torch.zeros_like(parameters)
        self._mean = torch.zeros_like(parameters)
        self._square = torch.zeros_like(parameters)
        self._epsilon = epsilon
        self.steps = 0

    def step(self, learning_rate: float, max_norm: float, beta1: float = 0.9) -> None:
        """Descend along ``gradient``, scaled down to ``max_norm`` where it is longer."""
        beta2 = 0.999
        self.steps += 1
        norm = torch.linalg.vector_norm(self.gradient)
        self.gradient.mul_((max_norm / (norm + 1e-6)).clamp_(max=1.0))
        self._mean.lerp_(self.gradient, 1 - beta1)
        self._square.mul_(beta2).addcmul_(self.gradient, self.gradient, value=1 - beta2)
        # the squares' bias correction is moved into the numbers: one pass over the parameters less
        correction = math.sqrt(1 - beta2**self.steps)
        scale = self._square.sqrt().add_(self._epsilon * correction)
        rate = learning_rate * correction / (1 - beta1**self.steps)
        self.parameters.addcdiv_(self._mean, scale, value=-rate)

    def state(self) -> dict[str, torch.Tensor | int]:
        """The live state, for a checkpoint."""
        return {"mean": self._mean, "square": self._square, "steps": self.steps}

    def load(self, state: dict[str, torch.Tensor | int]) -> None:
        """Go on from ``state()``."""
        self._mean.copy_(state["mean"])
        self._square.copy_(state["square"])
        self.steps = int(state["steps"])
