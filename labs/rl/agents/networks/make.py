"""Choosing the network of an agent."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

from labs.plugins import load_object
from labs.rl.agents.networks.base import Activation, Network, is_image
from labs.rl.agents.networks.images import convolutional_network
from labs.rl.agents.networks.mlp import MLP
from labs.rl.agents.networks.module import ModuleNetwork
from labs.runtime.errors import InputError


def make_network(
    observation_shape: tuple[int, ...],
    outputs: int,
    hidden_sizes: Sequence[int],
    activation: Activation,
    factory: str | None = None,
) -> Network:
    """An MLP for vectors, a convolutional network for images, or what ``factory`` returns.

    Args:
        factory: ``module:function``. The function takes ``(observation_shape, outputs)`` and returns
            a ``torch.nn.Module`` from float32 ``[n, *observation_shape]`` to ``[n, outputs]``.

    Raises:
        InputError: the factory is not found, or what it returns has the wrong type or shapes.
    """
    if factory is not None:
        function = load_object(factory, "network")
        if not callable(function):
            raise InputError(f"`network` {factory} is not a function: name one that makes a module")
        make = partial(function, observation_shape, outputs)
        return ModuleNetwork(make, observation_shape, outputs, f"`network` {factory}")
    if is_image(observation_shape):
        shape = cast("tuple[int, int, int]", observation_shape)
        make = partial(convolutional_network, shape, outputs, hidden_sizes, activation)
        return ModuleNetwork(make, shape, outputs)
    return MLP((observation_shape[0], *hidden_sizes, outputs), activation)
