"""Training an image classifier, as a generator of one report per epoch."""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from labs.runtime.checkpoints import load_checkpoint
from labs.runtime.errors import InputError, require
from labs.runtime.machine.devices import Precision, autocast, resolve_device, resolve_precision
from labs.runtime.reports import Checkpoint, Report
from labs.vision.batches import check_batch_size
from labs.vision.data.datasets import Splits
from labs.vision.data.preprocessing import DeviceImages, Preprocessor, augment
from labs.vision.models import Family, build_model, channels_last, validate_architecture

CHECKPOINT_KIND = "vision.classifier"
_EVALUATION_BATCH = 256


@dataclass(frozen=True)
class TrainConfig:
    """One classifier and how it is trained.

    Raises:
        InputError: a value is outside its range, or the family has no such depth.
    """

    family: Family = "rescnn"
    """mlp, cnn or rescnn."""

    depth: int = 11
    """Hidden layers of an MLP, convolutions of a CNN or ResCNN (odd for the latter)."""

    width: int = 64
    """Units of a hidden layer, or channels of a convolution."""

    learning_rate: float = 1e-3
    """Learning rate of Adam."""

    epochs: int = 10
    """Passes over the training images."""

    batch_size: int = 128
    """Images per gradient step; the last batch of an epoch may be smaller."""

    seed: int = 0
    """Seed of the initial weights, the order of the images and the augmentation."""

    precision: Precision = "auto"
    """auto (bfloat16 where the device is faster for it, else float32, as on a T4 or V100), float32 or
    bfloat16."""

    augment: bool = False
    """Shift the training images by up to an eighth, and mirror them where that keeps the class."""

    batch_norm: bool = True
    """Batch norm after every convolution. An MLP has none."""

    compile: bool = False
    """Compile the model with torch.compile: slow to start, faster after."""

    device: str = "auto"
    """auto (the GPU that the trial was given, else the CPU), cpu or cuda."""

    def __post_init__(self) -> None:
        validate_architecture(self.family, self.depth, self.width)
        require(
            "learning_rate",
            self.learning_rate,
            self.learning_rate > 0,
            "a number above 0, for instance 1e-3",
        )
        require("epochs", self.epochs, self.epochs >= 1, "1 or more")
        require("batch_size", self.batch_size, self.batch_size >= 1, "1 or more")
        require("seed", self.seed, self.seed >= 0, "0 or more")


@dataclass(frozen=True)
class Classifier:
    """A trained model with all that is needed to use it on an image."""

    model: nn.Module
    """In evaluation mode, on the CPU; normalised images [N, C, H, W] to logits [N, classes]."""

    class_names: tuple[str, ...]
    in_shape: tuple[int, int, int]
    """Channels, height and width of the training images."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Per channel, in units of pixel values (0 to 255)."""

    family: str
    dataset: str
    """What the model was trained on: the name or path given to ``load_dataset``."""


def train_classifier(
    config: TrainConfig, resume: Checkpoint | None = None, *, data: Splits
) -> Iterator[Report]:
    """Train with Adam on cross-entropy; one report per epoch, whose step is the epoch (from 1).

    Metrics: ``train/loss`` and ``train/accuracy`` (means over the epoch's batches, as they were
    trained on), ``val/*`` and ``test/*`` (after the epoch), ``time/samples_per_second`` (training
    images divided by the seconds spent on training, without evaluation).

    Raises:
        FloatingPointError: a batch's loss is not finite; names epoch, batch and learning rate.
        InputError: the batch is larger than the training set, there is no such device, or
            ``resume`` is of another model.
    """
    check_batch_size(config.batch_size, data)
    session = _Session(config, data)
    first = 1 if resume is None else session.restore(resume) + 1
    for epoch in range(first, config.epochs + 1):
        started = time.perf_counter()
        train_loss, train_accuracy = session.train_epoch(epoch)
        seconds = time.perf_counter() - started
        metrics = {
            "train/loss": train_loss,
            "train/accuracy": train_accuracy,
            "time/samples_per_second": len(data.train) / seconds,
        }
        for name, split in (("val", session.val), ("test", session.test)):
            metrics[f"{name}/loss"], metrics[f"{name}/accuracy"] = session.evaluate(split)
        yield Report(epoch, metrics, checkpoint=functools.partial(session.checkpoint, epoch))


class ModelConfig(Protocol):
    """The fields that describe the model in every config that trains a classifier."""

    @property
    def family(self) -> Family:
        """``mlp``, ``cnn`` or ``rescnn``."""

    @property
    def depth(self) -> int:
        """Hidden layers or convolutions."""

    @property
    def width(self) -> int:
        """Units or channels."""

    @property
    def seed(self) -> int:
        """Seed of the initial weights."""

    @property
    def batch_norm(self) -> bool:
        """Whether batch norm follows every convolution."""


def describe_model(config: ModelConfig, data: Splits) -> dict[str, Any]:
    """The arguments of ``build_model``, as a checkpoint keeps them."""
    return {
        "family": config.family,
        "depth": config.depth,
        "width": config.width,
        "in_shape": list(data.in_shape),
        "num_classes": data.num_classes,
        "batch_norm": config.batch_norm,
    }


def new_model(config: ModelConfig, data: Splits) -> tuple[nn.Module, torch.Generator]:
    """The seeded initial model, on the CPU, and the generator of the order of the images.

    torch's global generator is left as it was.
    """
    init_seed, order_seed = np.random.SeedSequence(config.seed).generate_state(2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(init_seed))
        model = build_model(**describe_model(config, data))
    return model, torch.Generator().manual_seed(int(order_seed))


def require_same_model(checkpoint: Checkpoint, description: dict[str, Any]) -> None:
    """Refuse to resume from a checkpoint of another model.

    Raises:
        InputError: the checkpoint's model is not the one described.
    """
    # Checkpoints from before batch norm was an option do not name it.
    if {"batch_norm": True, **checkpoint.get("model", {})} != description:
        raise InputError(
            f"the checkpoint is of the model {checkpoint.get('model')}, not of {description}"
        )


def load_classifier(path: str | Path) -> Classifier:
    """Rebuild a model from the checkpoint that training left, without running code in it.

    Raises:
        InputError: the file is missing, or is not a checkpoint of a classifier.
    """
    checkpoint = load_checkpoint(path, CHECKPOINT_KIND)
    try:
        model = build_model(**checkpoint["model"])
        model.load_state_dict(checkpoint["weights"])
        return Classifier(
            model=model.eval(),
            class_names=tuple(checkpoint["class_names"]),
            in_shape=tuple(checkpoint["model"]["in_shape"]),
            mean=tuple(checkpoint["mean"]),
            std=tuple(checkpoint["std"]),
            family=checkpoint["model"]["family"],
            dataset=checkpoint["dataset"],
        )
    except (KeyError, TypeError, RuntimeError):
        raise InputError(f"checkpoint {path} is damaged: it does not describe a model") from None


class _Session:
    """The state of one training: model, optimizer, random state, data on the device."""

    def __init__(self, config: TrainConfig, data: Splits) -> None:
        self.config, self.data = config, data
        self.device = resolve_device(config.device)
        self.dtype = resolve_precision(config.precision, self.device)
        model, self.generator = new_model(config, data)
        self.model = channels_last(model.to(self.device))
        self.forward = torch.compile(self.model) if config.compile else self.model
        self.optimizer = torch.optim.Adam(
            self.model.parameters(), lr=config.learning_rate, fused=True
        )
        self.preprocess = Preprocessor(data.mean, data.std, self.device)
        self.train = DeviceImages(data.train, self.device)
        self.val = DeviceImages(data.val, self.device)
        self.test = DeviceImages(data.test, self.device)

    def train_epoch(self, epoch: int) -> tuple[float, float]:
        """One pass over the training images; mean loss and accuracy."""
        self.model.train()
        order = torch.randperm(len(self.train), generator=self.generator)
        losses, correct = [], torch.zeros((), dtype=torch.int64, device=self.device)
        sizes = []
        for batch in order.to(self.train.images.device).split(self.config.batch_size):
            images, labels = self.train.take(batch)
            if self.config.augment:
                images = augment(images, self.generator, self.data.flips_keep_class)
            images = self.preprocess(images)
            with autocast(self.device, self.dtype):
                logits = self.forward(images)
                loss = cross_entropy(logits, labels)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            losses.append(loss.detach())
            sizes.append(len(batch))
            correct += (logits.detach().argmax(1) == labels).sum()
        # Read once per epoch: reading after every batch would make a GPU wait.
        values = torch.stack(losses).double().cpu()
        bad = (~values.isfinite()).nonzero()
        if len(bad):
            raise FloatingPointError(
                f"the loss is {float(values[bad[0]])} in epoch {epoch}, batch {int(bad[0]) + 1} at"
                f" learning rate {self.config.learning_rate:g}"
            )
        mean_loss = float(values @ torch.tensor(sizes, dtype=torch.float64)) / len(self.train)
        return mean_loss, float(correct) / len(self.train)

    @torch.inference_mode()
    def evaluate(self, split: DeviceImages) -> tuple[float, float]:
        """Mean loss and accuracy over a split."""
        self.model.eval()
        total = torch.zeros(2, dtype=torch.float64, device=self.device)
        for images, labels in split.batches(_EVALUATION_BATCH):
            with autocast(self.device, self.dtype):
                logits = self.forward(self.preprocess(images))
            loss = cross_entropy(logits.float(), labels, reduction="sum")
            total += torch.stack([loss.double(), (logits.argmax(1) == labels).sum().double()])
        loss, correct = (total / len(split)).tolist()
        return loss, correct

    def checkpoint(self, epoch: int) -> Checkpoint:
        """The state from which training continues after ``epoch``."""
        config, data = self.config, self.data
        return {
            "kind": CHECKPOINT_KIND,
            "model": describe_model(self.config, self.data),
            "class_names": list(data.class_names),
            "dataset": data.name,
            "mean": list(data.mean),
            "std": list(data.std),
            "learning_rate": config.learning_rate,
            "epoch": epoch,
            "weights": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }

    def restore(self, checkpoint: Checkpoint) -> int:
        """Continue from a checkpoint; returns its epoch."""
        require_same_model(checkpoint, describe_model(self.config, self.data))
        self.model.load_state_dict(checkpoint["weights"])
        # A copy, because the optimizer updates the tensors that it is given.
        self.optimizer.load_state_dict(copy.deepcopy(checkpoint["optimizer"]))
        self.generator.set_state(checkpoint["generator"])
        return checkpoint["epoch"]
