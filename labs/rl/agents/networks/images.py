"""A small convolutional network for image observations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from labs.rl.agents.networks.base import Activation

_LARGE, _SMALL = 48, 6
"""Strides are 4 while the shorter side is above ``_LARGE``, then 2 until it is at most ``_SMALL``."""


def convolutional_network(
    observation_shape: tuple[int, int, int],
    outputs: int,
    hidden_sizes: Sequence[int],
    activation: Activation,
) -> nn.Module:
    """Convolutions, then an MLP of ``hidden_sizes``, for float32 ``[n, channels, height, width]``.

    As in Mnih et al. (2015), but narrow enough for a few cores: kernels of 8 with stride 4 while the
    image is large, then kernels of 3 with stride 2 until it is small; 16 channels in the first layer
    and 32 in the others. Weights are orthogonal (gain sqrt(2), in the last layer 1), biases 0.
    """
    channels, height, width = observation_shape
    hidden = nn.Tanh if activation == "tanh" else nn.ReLU
    layers: list[nn.Module] = []
    while not layers or min(height, width) > _SMALL:
        window, stride = (8, 4) if min(height, width) > _LARGE else (3, 2)
        padding = (window - 1) // 2
        filters = 32 if layers else 16
        layers += [nn.Conv2d(channels, filters, window, stride, padding), hidden()]
        channels = filters
        height, width = ((n + 2 * padding - window) // stride + 1 for n in (height, width))
    layers.append(nn.Flatten())
    sizes = (channels * height * width, *hidden_sizes)
    for inputs, size in pairwise(sizes):
        layers += [nn.Linear(inputs, size), hidden()]
    layers.append(nn.Linear(sizes[-1], outputs))
    weighted = [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer in weighted:
        nn.init.orthogonal_(layer.weight, 1.0 if layer is weighted[-1] else math.sqrt(2))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)
