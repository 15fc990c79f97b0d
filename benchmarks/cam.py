"""Class activation maps per second: a batch of images at once against one image at a time with hooks.

The usual way registers a forward hook on the last convolutional layer, runs one image through the
model, and multiplies the features from the hook with the classifier's row in NumPy. Both compute the map
of the most probable class, which is checked before any ratio is printed. Rounds alternate, and medians
are compared.

    python benchmarks/cam.py
    python benchmarks/cam.py --size 32 --channels 3 --width 64
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import numpy as np
import torch
import tyro
from torch import Tensor

from labs.vision.cam.maps import CamNetwork, activation_maps
from labs.vision.models import ConvClassifier, ResCNN


@dataclass(frozen=True)
class Config:
    """Options of the benchmark. The defaults are the ResCNN of the experiment."""

    images: int = 64
    """Images in the batch."""
    size: int = 8
    """Height and width of an image."""
    channels: int = 1
    """1 or 3."""
    depth: int = 11
    """Convolutions."""
    width: int = 16
    """Channels of a convolution."""
    rounds: int = 9
    """Repetitions."""


def one_at_a_time(model: ConvClassifier, images: Tensor) -> np.ndarray:
    """The maps of the most probable classes, float32 [N, h, w], with a hook."""
    outputs: list[Tensor] = []
    handle = model.features[-1].register_forward_hook(lambda *call: outputs.append(call[-1]))
    weight = model.classifier.weight.detach().numpy()
    maps = []
    with torch.no_grad():
        for image in images:
            outputs.clear()
            logits = model(image[None])
            index = int(logits.argmax(1))
            features = outputs[0][0].numpy()
            maps.append(np.tensordot(weight[index], features, axes=1))
    handle.remove()
    return np.stack(maps)


def main(config: Config) -> None:
    """Check that both ways agree, then print the maps per second of each and their ratio."""
    torch.manual_seed(0)
    shape = (config.channels, config.size, config.size)
    model = ResCNN(config.depth, config.width, shape, 10).eval()
    images = torch.randn(config.images, *shape)
    network = CamNetwork(
        "random",
        model.features,
        model.classifier,
        tuple("0123456789"),
        config.channels,
        config.size,
        mean=(0.0,) * config.channels,
        std=(1.0,) * config.channels,
    )
    batch = images.contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(
        activation_maps(network, batch)[0].numpy(), one_at_a_time(model, images), atol=1e-4
    )
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(config.rounds):
        started = time.perf_counter()
        activation_maps(network, batch)
        between = time.perf_counter()
        one_at_a_time(model, images)
        seconds[0].append(between - started)
        seconds[1].append(time.perf_counter() - between)
    ours, usual = (config.images / statistics.median(times) for times in seconds)
    print(
        f"ResCNN depth {config.depth}, width {config.width}, {config.images} images of"
        f" {config.channels} x {config.size} x {config.size}, {torch.get_num_threads()} threads,"
        f" median of {config.rounds}: {ours:,.0f} maps/s in a batch, {usual:,.0f} one at a time:"
        f" {ours / usual:.1f}x"
    )


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
