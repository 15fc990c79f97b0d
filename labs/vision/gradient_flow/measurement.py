"""How large the gradients are in every layer, batch by batch, in plain and residual networks.

Whether the gradients of a plain network vanish towards its input (Glorot & Bengio, 2010), explode
(as batch norm makes them at initialisation: Yang et al., 2019, arXiv:1902.08129), or neither, is
measured here, not assumed.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from labs.runtime.errors import InputError, require
from labs.runtime.machine.devices import resolve_device
from labs.runtime.reports import Checkpoint, Report
from labs.vision.data.datasets import Splits
from labs.vision.data.preprocessing import DeviceImages, Preprocessor
from labs.vision.models import Family, channels_last, validate_architecture
from labs.vision.training import describe_model, new_model, require_same_model

CHECKPOINT_KIND = "vision.gradient_flow"
CLASSIFIER = "classifier"


@dataclass(frozen=True)
class GradientFlowConfig:
    """One network and the batches that it sees.

    Raises:
        InputError: a value is outside its range, or the family has no such depth.
    """

    family: Family = "rescnn"
    """cnn or rescnn."""

    depth: int = 11
    """Convolutions (odd for rescnn)."""

    width: int = 16
    """Channels of a convolution."""

    learning_rate: float = 1e-3
    """Learning rate of Adam."""

    batches: int = 150
    """Gradient steps."""

    batch_size: int = 30
    """Images per gradient step."""

    seed: int = 0
    """Seed of the initial weights."""

    batch_seed: int = 0
    """Seed of the order of the images: the same for all networks that are compared."""

    batch_norm: bool = True
    """Batch norm after every convolution."""

    device: str = "auto"
    """auto (the GPU that the trial was given, else the CPU), cpu or cuda."""

    def __post_init__(self) -> None:
        validate_architecture(self.family, self.depth, self.width)
        if self.family == "mlp":
            raise InputError("`family` mlp has no convolutions to compare: use cnn or rescnn")
        require(
            "learning_rate",
            self.learning_rate,
            self.learning_rate > 0,
            "a number above 0, for instance 1e-3",
        )
        require("batches", self.batches, self.batches >= 1, "1 or more")
        require("batch_size", self.batch_size, self.batch_size >= 1, "1 or more")
        require("seed", self.seed, self.seed >= 0, "0 or more")
        require("batch_seed", self.batch_seed, self.batch_seed >= 0, "0 or more")


def weight_layers(model: nn.Module) -> dict[str, Tensor]:
    """The weights of every convolution, named ``conv_001``, ... from the input, and the classifier.

    A model registers its layers in the order of the forward pass.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    named = {f"conv_{place:03d}": layer.weight for place, layer in enumerate(layers, start=1)}
    dense = [m for m in model.modules() if isinstance(m, nn.Linear)]
    return named | {CLASSIFIER: dense[-1].weight}


def mean_absolute_gradients(layers: dict[str, Tensor]) -> dict[str, float]:
    """Mean of |dL/dw| over the weights of each layer, after a backward pass."""
    means = torch.stack([_gradient(weight).abs().mean() for weight in layers.values()])
    return dict(zip(layers, means.tolist(), strict=True))


def batch_order(images: int, batch_size: int, batches: int, seed: int) -> Tensor:
    """Which images each batch takes, int64 [batches, batch_size]: passes without repetition."""
    generator = torch.Generator().manual_seed(seed)
    needed = batches * batch_size
    passes = [torch.randperm(images, generator=generator) for _ in range(-(-needed // images))]
    return torch.cat(passes)[:needed].view(batches, batch_size)


def record_gradients(
    config: GradientFlowConfig, resume: Checkpoint | None = None, *, data: Splits
) -> Iterator[Report]:
    """Train on ``config.batches`` batches; one report per batch, whose step is the batch (from 1).

    Metrics: ``train/loss``; ``gradients/classifier`` and ``gradients/conv_first``, mean absolute
    gradients before the step; ``layers/conv_001`` ..., the same of every convolution by its place
    from the input. Histograms of the gradients of the first and the last convolution and of the
    classifier come with the first and the last report.

    Raises:
        FloatingPointError: a loss is not finite; names batch and learning rate.
        InputError: there is no such device, or ``resume`` is of another model.
    """
    device = resolve_device(config.device)
    model, _ = new_model(config, data)
    model = channels_last(model.to(device)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
    description = describe_model(config, data)
    done = 0
    if resume is not None:
        require_same_model(resume, description)
        model.load_state_dict(resume["weights"])
        optimizer.load_state_dict(copy.deepcopy(resume["optimizer"]))
        done = resume["batch"]

    def checkpoint(batch: int) -> Checkpoint:
        """The state from which training continues after ``batch``."""
        return {
            "kind": CHECKPOINT_KIND,
            "model": description,
            "batch": batch,
            "weights": model.state_dict(),
            "optimizer": optimizer.state_dict(),
        }

    images = DeviceImages(data.train, device)
    preprocess = Preprocessor(data.mean, data.std, device)
    layers = weight_layers(model)
    order = batch_order(len(images), config.batch_size, config.batches, config.batch_seed)
    for batch, chosen in enumerate(order[done:].to(images.images.device), start=done + 1):
        inputs, labels = images.take(chosen)
        loss = cross_entropy(model(preprocess(inputs)), labels)
        if not math.isfinite(loss.item()):
            raise FloatingPointError(
                f"the loss is {loss.item()} in batch {batch} at learning rate"
                f" {config.learning_rate:g}"
            )
        optimizer.zero_grad()
        loss.backward()
        metrics = {"train/loss": loss.item()} | _tagged(mean_absolute_gradients(layers))
        ends = _histograms(layers) if batch in (1, config.batches) else {}
        optimizer.step()
        yield Report(batch, metrics, functools.partial(checkpoint, batch), histograms=ends)


def _gradient(weight: Tensor) -> Tensor:
    assert weight.grad is not None  # after a backward pass
    return weight.grad


def _tagged(gradients: dict[str, float]) -> dict[str, float]:
    by_layer = {f"layers/{name}": v for name, v in gradients.items() if name != CLASSIFIER}
    return {
        "gradients/classifier": gradients[CLASSIFIER],
        "gradients/conv_first": gradients["conv_001"],
    } | by_layer


def _histograms(layers: dict[str, Tensor]) -> dict[str, np.ndarray]:
    *convolutions, classifier = layers
    shown = {"conv_first": convolutions[0], "conv_last": convolutions[-1], "classifier": classifier}
    return {
        f"gradients/{tag}": _gradient(layers[name]).cpu().numpy() for tag, name in shown.items()
    }
