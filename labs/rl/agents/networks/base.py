"""What a learner asks of a network: parameters in one flat array, a forward and a backward pass.

A network's parameters are a slice of one flat tensor, its gradient a slice of another: the
optimiser and the gradient's norm are a handful of operations whatever the number of layers, and the
parameters travel to the rollout workers as one array.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import torch

Activation = Literal["tanh", "relu"]


class Spaces(NamedTuple):
    """What an agent is told of its environment."""

    observation_shape: tuple[int, ...]
    """``(size,)`` for float32 vectors, ``(channels, height, width)`` for uint8 images."""
    action_size: int
    """Number of actions if ``discrete``, else number of components of the action vector."""
    discrete: bool


def is_image(observation_shape: tuple[int, ...]) -> bool:
    """Whether observations are uint8 images, not float32 vectors."""
    return len(observation_shape) == 3


class Network(Protocol):
    """An architecture. ``bind`` gives it the parameters that the other methods work with.

    Inputs are batches of observations ``[n, *observation_shape]``: float32 vectors, or uint8
    images, which the network scales itself. Outputs are float32 ``[n, outputs]``.
    """

    num_parameters: int

    def initial_parameters(
        self, generator: torch.Generator, output_gain: float = 1.0, hidden_biases: bool = False
    ) -> torch.Tensor:
        """Fresh parameters, float32 ``[num_parameters]``, on the CPU.

        Args:
            generator: the only source of randomness.
            output_gain: scales the last layer: a small one makes a first policy close to uniform.
            hidden_biases: random biases of hidden layers where the network begins with zeros (see
                ``MLP``): asked for by value functions.
        """
        ...

    def bind(self, parameters: torch.Tensor, gradient: torch.Tensor | None = None) -> None:
        """Work on these ``[num_parameters]``, which others may overwrite in place.

        Args:
            gradient: where ``backward`` writes; without it the network only computes.
        """
        ...

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs."""
        ...

    def forward_for_backward(self, inputs: torch.Tensor, rows: int | None = None) -> torch.Tensor:
        """Outputs; remembers what ``backward`` needs of the first ``rows`` (all, without)."""
        ...

    def backward(self, output_gradient: torch.Tensor) -> None:
        """Overwrite the gradient, given the loss's derivative by the outputs ``[rows, outputs]``.

        Belongs to the last ``forward_for_backward``, and can be called once after it.
        """
        ...
