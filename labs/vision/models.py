"""Image classifiers whose depth can be compared: MLP, plain CNN and residual CNN."""

from __future__ import annotations

import itertools
import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from labs.runtime.errors import InputError

Family = Literal["mlp", "cnn", "rescnn"]

FAMILIES: tuple[Family, ...] = get_args(Family)
FAMILY_TITLES = {"mlp": "MLP", "cnn": "CNN", "rescnn": "ResCNN"}
DEFAULT_WIDTHS = {"mlp": 128, "cnn": 64, "rescnn": 64}


class MLP(nn.Module):
    """``depth`` hidden layers with ReLU, then one dense layer.

    Every hidden layer has ``width`` units, the last of several half as many: depth 2 and width 128
    give 784-128-64-10 on MNIST.
    """

    def __init__(
        self, depth: int, width: int, in_shape: tuple[int, int, int], num_classes: int
    ) -> None:
        super().__init__()
        widths = [math.prod(in_shape)] + [width] * depth
        if depth > 1:
            widths[-1] = max(1, width // 2)
        layers: list[nn.Module] = [nn.Flatten()]
        for fan_in, fan_out in itertools.pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [N, C, H, W] to logits [N, classes]."""
        return self.classifier(self.features(images))


class ConvClassifier(nn.Module):
    """Convolutional features, global average pooling, one dense layer.

    Fully convolutional until the pooling: images of any size go in, and class activation maps
    (Zhou et al., 2016) exist.
    """

    def __init__(self, features: nn.Sequential, width: int, num_classes: int) -> None:
        super().__init__()
        self.features = features
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [N, C, H, W] to logits [N, classes]."""
        return self.classifier(self.features(images).mean(dim=(2, 3)))


class CNN(ConvClassifier):
    """``depth`` 3x3 convolutions with batch norm and ReLU, all at full resolution."""

    def __init__(
        self, depth: int, width: int, in_shape: tuple[int, int, int], num_classes: int
    ) -> None:
        fan_ins = [in_shape[0]] + [width] * (depth - 1)
        super().__init__(
            nn.Sequential(*(ConvNormRelu(fan_in, width) for fan_in in fan_ins)), width, num_classes
        )


class ResCNN(ConvClassifier):
    """The same ``depth`` convolutions as ``CNN``, with identity skips around pairs of them.

    A stem and (depth - 1) / 2 basic blocks (He et al., 2015, arXiv:1512.03385, figure 2), so the
    depth is odd.
    """

    def __init__(
        self, depth: int, width: int, in_shape: tuple[int, int, int], num_classes: int
    ) -> None:
        validate_architecture("rescnn", depth, width)
        blocks = (ResidualBlock(width) for _ in range((depth - 1) // 2))
        super().__init__(
            nn.Sequential(ConvNormRelu(in_shape[0], width), *blocks), width, num_classes
        )


class ConvNormRelu(nn.Sequential):
    """3x3 convolution without bias (the norm has one), batch norm, ReLU."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__(
            nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(fan_out),
            nn.ReLU(inplace=True),
        )


class ResidualBlock(nn.Module):
    """Two convolutions with an identity skip around them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvNormRelu(width, width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        """[N, width, H, W] to the same shape."""
        return torch.relu_(self.norm(self.second(self.first(x))).add_(x))


_MODELS = {"mlp": MLP, "cnn": CNN, "rescnn": ResCNN}


def validate_architecture(family: str, depth: int, width: int = 1) -> None:
    """Refuse a model that cannot be built.

    Raises:
        InputError: unknown family; depth or width below 1; an even depth for ``rescnn`` (the
            message gives the two nearest odd ones).
    """
    if family not in FAMILIES:
        raise InputError(f"`family` {family} is unknown: use {', '.join(FAMILIES)}")
    if width < 1:
        raise InputError(f"`width` {width} is not a valid width: use 1 or more, for instance 64")
    if family == "rescnn" and (depth < 1 or depth % 2 == 0):
        nearest = (depth - 1, depth + 1) if depth > 1 else (1, 3)
        raise InputError(
            f"`depth` {depth} is not a valid depth for rescnn, whose convolutions are a stem and"
            f" pairs: use an odd number, for instance {nearest[0]} or {nearest[1]}"
        )
    if depth < 1:
        raise InputError(f"`depth` {depth} is not a valid depth: use 1 or more, for instance 3")


def build_model(
    family: str, depth: int, width: int, in_shape: tuple[int, int, int], num_classes: int
) -> nn.Module:
    """A new model with torch's default initialisation, drawn from torch's global generator.

    Args:
        family: ``mlp``, ``cnn`` or ``rescnn``.
        depth: hidden layers of an MLP, convolutions of the others.
        width: units of a hidden layer, channels of a convolution.
        in_shape: channels, height, width of an image.
        num_classes: number of logits.

    Raises:
        InputError: there is no such model.
    """
    validate_architecture(family, depth, width)
    return _MODELS[family](depth, width, in_shape, num_classes)


def count_parameters(model: nn.Module) -> int:
    """Number of trained numbers."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
