"""The protocol of a network: parameters in one flat array, a forward and a backward pass.

A network's parameters are a slice of one flat tensor, its gradient a slice of another. So the
optimizer and the gradient's norm take a few operations for any number of layers, and the parameters
are sent to the rollout workers as one array.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import torch

Activation = Literal["tanh", "relu"]


class Spaces(NamedTuple):
    """What an agent knows about its environment."""

    observation_shape: tuple[int, ...]
    """``(size,)`` for float32 vectors, ``(channels, height, width)`` for uint8 images."""
    action_size: int
    """Number of actions if ``discrete``, else number of components of the action vector."""
    discrete: bool


def is_image(observation_shape: tuple[int, ...]) -> bool:
    """Whether observations are uint8 images, not float32 vectors."""
    return len(observation_shape) == 3


class Network(Protocol):
    """An architecture. ``bind`` sets the parameters that the other methods use.

    Inputs are batches of observations ``[n, *observation_shape]``: float32 vectors, or uint8
    images, which the network scales itself. Outputs are float32 ``[n, outputs]``.
    """

    num_parameters: int

    def initial_parameters(
        self, generator: torch.Generator, output_gain: float = 1.0, hidden_biases: bool = False
    ) -> torch.Tensor:
        """Initial parameters, float32 ``[num_parameters]``, on the CPU.

        Args:
            generator: the only source of randomness.
            output_gain: scale of the last layer; a small one makes the first policy nearly uniform.
            hidden_biases: random instead of zero biases in the hidden layers (see ``MLP``), for
                value functions.
        """
        ...

    def bind(self, parameters: torch.Tensor, gradient: torch.Tensor | None = None) -> None:
        """Use these parameters ``[num_parameters]``, which may be changed in place afterwards.

        Args:
            gradient: where ``backward`` writes; None for a network that is not trained.
        """
        ...

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs."""
        ...

    def forward_for_backward(self, inputs: torch.Tensor, rows: int | None = None) -> torch.Tensor:
        """Outputs; keeps what ``backward`` needs for the first ``rows`` (None: all)."""
        ...

    def backward(self, output_gradient: torch.Tensor) -> None:
        """Overwrite the gradient, given the loss's derivative by the outputs ``[rows, outputs]``.

        It is that of the last ``forward_for_backward``, after which it can be called once.
        """
        ...
