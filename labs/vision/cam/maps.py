"""Class activation maps (Zhou et al., 2016, arXiv:1512.04150), exact, and how far to trust them.

A network that ends in global average pooling and a dense layer computes the logit of class c as
mean over pixels of (sum_k w_ck f_k) + b_c. The map is the expression in brackets: the contribution
of every place to the logit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from labs.runtime.errors import InputError
from labs.vision.data.datasets import Splits
from labs.vision.data.images import resize_shorter_side, to_array
from labs.vision.data.preprocessing import Preprocessor

MAX_SIDE_RATIO = 4.0  # an image is squeezed to at most this many times its shorter side
_TILE = 512
_DELETION_PIXELS = 1 << 19  # per batch, so that a large image does not need all steps at once


@dataclass(frozen=True)
class CamNetwork:
    """A network that ends in global average pooling and a dense layer, and how to feed it."""

    name: str
    features: nn.Module
    """In evaluation mode; normalised images [N, channels, H, W] to [N, K, h, w], for any size."""

    classifier: nn.Linear
    """[N, K] to logits [N, classes]."""

    class_names: tuple[str, ...]
    channels: int
    """1 (grey) or 3 (RGB)."""

    size: int
    """Pixels of the shorter side of the training images."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Per channel, in units of pixel values (0 to 255)."""

    dataset: str | None = None
    """What it was trained on, as ``load_dataset`` takes it; ``None`` where that is none of those."""

    receptive_radius: int | None = None
    """How many input pixels away a feature still sees, where the features have the input's
    resolution: large images are then computed in tiles, exactly. ``None``: in one piece."""

    @property
    def device(self) -> torch.device:
        """Where it computes; images may come from anywhere."""
        return self.classifier.weight.device

    def to(self, device: torch.device) -> CamNetwork:
        """The same network on a device; its modules are moved, not copied."""
        return dataclasses.replace(
            self, features=self.features.to(device), classifier=self.classifier.to(device)
        )

    def class_index(self, name: str) -> int:
        """The index of a class.

        Raises:
            InputError: the network does not know it.
        """
        if name not in self.class_names:
            shown = ", ".join(self.class_names[:10])
            more = ", ..." if len(self.class_names) > 10 else ""
            raise InputError(
                f"`class_name` {name!r} is not a class of {self.name}: use {shown}{more}"
            )
        return self.class_names.index(name)


@dataclass(frozen=True)
class Explanation:
    """A network's output for one image, and the map of one class."""

    image: Image.Image
    """The original, RGB, at its own resolution."""

    inputs: Tensor
    """The network's input, float32 [1, C, H, W], on the CPU."""

    probabilities: np.ndarray
    """float32 [classes]."""

    class_index: int
    """The class of the map."""

    activation: np.ndarray
    """The map at the resolution of the features, float32 [h, w]: its mean plus the class's bias is
    the logit."""

    def top(self, count: int) -> list[tuple[int, float]]:
        """The most probable classes, with their probabilities."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(int(index), float(self.probabilities[index])) for index in order]


@torch.inference_mode()
def activation_maps(
    network: CamNetwork, images: Tensor, classes: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Maps and logits of a batch.

    Args:
        network: what to explain.
        images: normalised float32 [N, C, H, W], of any size.
        classes: int64 [N], the class of each map; ``None`` is the most probable one.

    Returns:
        Maps float32 [N, h, w] and logits float32 [N, classes], on the network's device;
        ``maps.mean((1, 2)) + bias[classes]`` are the logits of the classes.
    """
    weight, bias = network.classifier.weight, network.classifier.bias
    images = images.to(network.device)
    classes = None if classes is None else classes.to(network.device)
    if network.receptive_radius is not None and max(images.shape[2:]) > _TILE:
        every = _maps_in_tiles(network, images)
        logits = every.mean((2, 3)) + bias
        classes = logits.argmax(1) if classes is None else classes
        return every[torch.arange(len(images), device=network.device), classes], logits
    features = network.features(images)
    logits = network.classifier(features.mean((2, 3)))
    classes = logits.argmax(1) if classes is None else classes
    # Channels last in memory, so that each image's map is one product of a matrix and a vector.
    pixels = features.permute(0, 2, 3, 1).flatten(1, 2)
    maps = torch.bmm(pixels, weight[classes].unsqueeze(2))
    return maps.view(len(images), *features.shape[2:]), logits


def dataset_images(
    data: Splits, indices: Sequence[int], network: CamNetwork | None = None
) -> list[tuple[str, Image.Image]]:
    """Test images by their index, each with a name such as ``0018-ship`` (its true class).

    Args:
        data: where they are.
        indices: into the test images.
        network: the one that will get them. If it was trained by this project, its classes must be
            those of ``data``.

    Raises:
        InputError: an index outside the test images, or other classes than the network's.
    """
    others = network is not None and network.class_names != data.class_names
    if network is not None and network.dataset is not None and others:
        raise InputError(
            f"`dataset` {data.name} has the classes {', '.join(data.class_names[:10])}, and"
            f" {network.name} knows {', '.join(network.class_names[:10])}: use the data set it was"
            " trained on, or `images`"
        )
    pictures = []
    for index in indices:
        if not 0 <= index < len(data.test):
            raise InputError(
                f"`index` {index} is outside the test images of {data.name}: use 0 to"
                f" {len(data.test) - 1}"
            )
        pixels = data.test.images[index].transpose(1, 2, 0)
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
        pictures.append((f"{index:04d}-{data.class_names[data.test.labels[index]]}", image))
    return pictures


def explain(
    network: CamNetwork,
    image: Image.Image,
    class_name: str | None = None,
    full_resolution: bool = False,
) -> Explanation:
    """Classify an image and map one class.

    Args:
        network: what to explain.
        image: RGB, of any size.
        class_name: class of the map; ``None`` is the most probable one.
        full_resolution: keep the image's own size instead of scaling it to the training size.

    Raises:
        InputError: the network does not know the class.
    """
    chosen = None if class_name is None else torch.tensor([network.class_index(class_name)])
    seen = image if full_resolution else resize_shorter_side(image, network.size, MAX_SIDE_RATIO)
    preprocess = Preprocessor(network.mean, network.std, torch.device("cpu"))
    inputs = preprocess(torch.from_numpy(to_array(seen, network.channels))[None])
    maps, logits = activation_maps(network, inputs, chosen)
    index = int(logits.argmax()) if chosen is None else int(chosen)
    probabilities = torch.softmax(logits[0], 0).cpu().numpy()
    return Explanation(image, inputs, probabilities, index, maps[0].cpu().numpy())


def upsample(activation: np.ndarray, height: int, width: int) -> np.ndarray:
    """A map [h, w] at another resolution, float32 [height, width], bilinear between centres."""
    tensor = torch.from_numpy(np.ascontiguousarray(activation))[None, None]
    return interpolate(tensor, size=(height, width), mode="bilinear")[0, 0].numpy()


@dataclass(frozen=True)
class Deletion:
    """The class's probability as pixels are removed (Petsiuk et al., 2018, arXiv:1806.07421)."""

    fractions: np.ndarray
    """Share of pixels removed, float64 [steps + 1], from 0 to 1."""

    curves: dict[str, np.ndarray]
    """float64 [steps + 1] for ``most`` (those with the highest map first), ``moved`` (the order of the
    same map at other places, the mean over several), ``random`` (pixel by pixel, likewise) and
    ``least``."""

    def area(self, order: str) -> float:
        """Area under a curve: smaller means that these pixels mattered more."""
        return float(np.trapezoid(self.curves[order], self.fractions))


def deletion(
    network: CamNetwork,
    explanation: Explanation,
    *,
    steps: int = 20,
    random_orders: int = 8,
    seed: int = 0,
) -> Deletion:
    """Remove pixels step by step, replacing them by the training images' mean colour.

    Scattered random pixels are noise of a kind that no training image has, to which a network may be
    more sensitive than to the loss of what it looks at. ``moved`` therefore removes areas of the very
    shapes of the map, shifted (cyclically) by a quarter to three quarters of the image in both
    directions: only the place differs.

    Args:
        network: the one that made the explanation.
        explanation: the image, and the map that decides the order.
        steps: number of measurements after the first one.
        random_orders: number of random orders, and of shifts, that are averaged.
        seed: seed of both.
    """
    height, width = explanation.inputs.shape[2:]
    importance = upsample(explanation.activation, height, width)
    most = _descending(importance)
    rng = np.random.default_rng(seed)
    random = [rng.permutation(height * width) for _ in range(random_orders)]
    shifts = [
        tuple(int(rng.integers(size // 4, 3 * size // 4 + 1)) for size in (height, width))
        for _ in range(random_orders)
    ]
    moved = [_descending(np.roll(importance, shift, axis=(0, 1))) for shift in shifts]
    orders = {"most": [most], "moved": moved, "random": random, "least": [most[::-1]]}
    fractions = np.linspace(0, 1, steps + 1)
    curves = {
        name: np.mean([_removal_curve(network, explanation, o, fractions) for o in same], axis=0)
        for name, same in orders.items()
    }
    return Deletion(fractions, curves)


def _descending(importance: np.ndarray) -> np.ndarray:
    """The places of a map [h, w] in its raveled form, the highest value first."""
    return np.argsort(-importance.ravel(), kind="stable")


@torch.inference_mode()
def _removal_curve(
    network: CamNetwork, explanation: Explanation, order: np.ndarray, fractions: np.ndarray
) -> np.ndarray:
    """Probability of the explained class after each share of ``order`` has been removed."""
    height, width = explanation.inputs.shape[2:]
    place = np.empty(len(order), np.int64)  # the step at which each pixel is removed
    place[order] = np.arange(len(order))
    counts = np.round(fractions * len(order))
    kept = torch.from_numpy(place[None] >= counts[:, None]).view(-1, 1, height, width)
    per_batch = max(1, _DELETION_PIXELS // (height * width))
    inputs, kept = explanation.inputs.to(network.device), kept.to(network.device)
    probabilities = []
    for mask in kept.split(per_batch):
        _, logits = activation_maps(network, inputs * mask)  # normalised, 0 is the mean
        probabilities.append(torch.softmax(logits, 1)[:, explanation.class_index])
    return torch.cat(probabilities).double().cpu().numpy()


def _maps_in_tiles(network: CamNetwork, images: Tensor) -> Tensor:
    """Maps of all classes [N, classes, H, W], without the features of a whole image in memory.

    Each tile is computed with a margin of ``receptive_radius`` pixels, except at the image's edges.
    The margin is cut off again, so the result equals that of the whole image.
    """
    radius, weight = network.receptive_radius or 0, network.classifier.weight
    count, _, height, width = images.shape
    maps = images.new_empty(count, len(weight), height, width)
    for top in range(0, height, _TILE):
        for left in range(0, width, _TILE):
            y, x = max(0, top - radius), max(0, left - radius)
            bottom, right = min(height, top + _TILE), min(width, left + _TILE)
            features = network.features(images[:, :, y : bottom + radius, x : right + radius])
            features = features[:, :, top - y : bottom - y, left - x : right - x]
            maps[:, :, top:bottom, left:right] = torch.einsum("nkhw,ck->nchw", features, weight)
    return maps
