"""Image classifiers whose depth can be compared: MLP, plain CNN and residual CNN."""

from __future__ import annotations

import itertools
import math
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

from labs.runtime.errors import InputError

Family = Literal["mlp", "cnn", "rescnn"]

FAMILIES: tuple[Family, ...] = get_args(Family)
FAMILY_TITLES = {"mlp": "MLP", "cnn": "CNN", "rescnn": "ResCNN"}
DEFAULT_WIDTHS = {"mlp": 128, "cnn": 64, "rescnn": 64}

_Module = TypeVar("_Module", bound=nn.Module)


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
    """``depth`` 3x3 convolutions with ReLU, all at full resolution; batch norm unless it is off."""

    def __init__(
        self,
        depth: int,
        width: int,
        in_shape: tuple[int, int, int],
        num_classes: int,
        batch_norm: bool = True,
    ) -> None:
        fan_ins = [in_shape[0]] + [width] * (depth - 1)
        layers = (conv_norm_relu(fan_in, width, batch_norm) for fan_in in fan_ins)
        super().__init__(nn.Sequential(*layers), width, num_classes)


class ResCNN(ConvClassifier):
    """The same ``depth`` convolutions as ``CNN``, with identity skips around pairs of them.

    A stem and (depth - 1) / 2 basic blocks (He et al., 2015, arXiv:1512.03385, figure 2), so the
    depth is odd.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        in_shape: tuple[int, int, int],
        num_classes: int,
        batch_norm: bool = True,
    ) -> None:
        validate_architecture("rescnn", depth, width)
        blocks = (ResidualBlock(width, batch_norm) for _ in range((depth - 1) // 2))
        stem = conv_norm_relu(in_shape[0], width, batch_norm)
        super().__init__(nn.Sequential(stem, *blocks), width, num_classes)


def conv_norm_relu(fan_in: int, fan_out: int, batch_norm: bool = True) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU. The convolution has a bias where no norm brings one."""
    convolution = nn.Conv2d(fan_in, fan_out, 3, padding=1, bias=not batch_norm)
    norm = [nn.BatchNorm2d(fan_out)] if batch_norm else []
    return nn.Sequential(convolution, *norm, nn.ReLU(inplace=True))


class ResidualBlock(nn.Module):
    """Two convolutions with an identity skip around them."""

    def __init__(self, width: int, batch_norm: bool = True) -> None:
        super().__init__()
        self.first = conv_norm_relu(width, width, batch_norm)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=not batch_norm)
        self.norm = nn.BatchNorm2d(width) if batch_norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[N, width, H, W] to the same shape."""
        return torch.relu_(self.norm(self.second(self.first(x))).add_(x))


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
    family: str,
    depth: int,
    width: int,
    in_shape: tuple[int, int, int],
    num_classes: int,
    batch_norm: bool = True,
) -> nn.Module:
    """A new model with torch's default initialisation, drawn from torch's global generator.

    Args:
        family: ``mlp``, ``cnn`` or ``rescnn``.
        depth: hidden layers of an MLP, convolutions of the others.
        width: units of a hidden layer, channels of a convolution.
        in_shape: channels, height, width of an image.
        num_classes: number of logits.
        batch_norm: after every convolution. An MLP has none.

    Raises:
        InputError: there is no such model.
    """
    validate_architecture(family, depth, width)
    if family == "mlp":
        return MLP(depth, width, in_shape, num_classes)
    model = CNN if family == "cnn" else ResCNN
    return model(depth, width, in_shape, num_classes, batch_norm)


def channels_last(model: _Module) -> _Module:
    """The model itself, with the weights of its convolutions stored with channels last.

    On the CPU, convolutions are fastest with this layout, for images that have it too.
    """
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
