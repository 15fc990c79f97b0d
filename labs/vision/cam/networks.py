"""Networks to explain: from a checkpoint, from a run of the sweep, or from torchvision."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labs.analysis.load import load_run
from labs.runtime.errors import InputError
from labs.runtime.results import best_row
from labs.vision.cam.maps import CamNetwork
from labs.vision.models import FAMILY_TITLES, ConvClassifier, channels_last
from labs.vision.training import load_classifier


def network_from_checkpoint(path: str | Path) -> CamNetwork:
    """The CNN or ResCNN of a checkpoint.

    Raises:
        InputError: the file is missing, is not a checkpoint of a classifier, or is of an MLP.
    """
    classifier = load_classifier(path)
    model = classifier.model
    if not isinstance(model, ConvClassifier):
        raise InputError(
            f"checkpoint {path} is of an {FAMILY_TITLES[classifier.family]}, for which no class"
            " activation map exists, since its dense layers mix all pixels: use a CNN or ResCNN"
        )
    channels, height, width = classifier.in_shape
    return CamNetwork(
        name=f"{FAMILY_TITLES[classifier.family]} trained on {classifier.dataset}",
        features=channels_last(model.features),
        classifier=model.classifier,
        class_names=classifier.class_names,
        channels=channels,
        size=min(height, width),
        mean=classifier.mean,
        std=classifier.std,
        dataset=classifier.dataset,
        receptive_radius=sum(isinstance(module, nn.Conv2d) for module in model.modules()),
    )


def best_checkpoint(directory: str | Path) -> str:
    """The checkpoint of a run's best CNN or ResCNN by validation accuracy.

    Only trials that ran to their end take part.

    Raises:
        InputError: it is not the directory of a run of the depth sweep, or no CNN or ResCNN of the
            run has ended.
    """
    run = load_run(directory)
    if "family" not in run.table:
        raise InputError(f"`run` {directory} is not a run of the depth sweep: it has no `family`")
    ended = run.finished
    best = best_row(ended[ended["family"].isin(("cnn", "rescnn"))], "val/accuracy", "max")
    if best is None:
        raise InputError(f"`run` {directory} has no CNN or ResCNN that has ended: use `checkpoint`")
    return run.checkpoint_path(int(best["trial"]))


def torchvision_network(name: str, weights: str | Path | None = None) -> CamNetwork:
    """A torchvision ResNet trained on ImageNet.

    Args:
        name: for instance ``resnet18``.
        weights: a file with its state dict; ``None`` downloads torchvision's own.

    Raises:
        InputError: there is no such ResNet, the file does not fit it, or the download fails.
    """
    from torchvision import models  # takes seconds

    known = [known for known in models.list_models(module=models) if "resne" in known]
    if name not in known:
        raise InputError(
            f"`torchvision` {name} is not a ResNet of torchvision: use {', '.join(known)}"
        )
    published = models.get_model_weights(name).DEFAULT
    state = _state_dict(Path(weights)) if weights is not None else _download(published, name)
    try:
        num_classes = len(state["fc.weight"])
        model = models.get_model(name, weights=None, num_classes=num_classes)
        model.load_state_dict(state)
    except (KeyError, TypeError, RuntimeError):
        raise InputError(f"`weights` {weights} are not those of a {name}") from None
    categories = published.meta["categories"]
    if num_classes != len(categories):
        categories = [f"class {index}" for index in range(num_classes)]
    return CamNetwork(
        name=name,
        features=resnet_features(model.eval()),
        classifier=model.fc,
        class_names=tuple(categories),
        channels=3,
        size=224,
        # ImageNet's, as torchvision's transforms give them for images between 0 and 1.
        mean=tuple(255 * value for value in (0.485, 0.456, 0.406)),
        std=tuple(255 * value for value in (0.229, 0.224, 0.225)),
    )


def resnet_features(model: nn.Module) -> nn.Sequential:
    """A torchvision ResNet up to its pooling."""
    children = list(model.children())  # conv1, bn1, relu, maxpool, layer1 ... layer4, avgpool, fc
    return nn.Sequential(*children[:-2])


def _state_dict(path: Path) -> dict[str, torch.Tensor]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"`weights` {path} does not exist") from None
    except pickle.UnpicklingError:
        raise InputError(f"`weights` {path} holds more than tensors, and could run code") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile):
        raise InputError(f"`weights` {path} is not a file of weights, or is damaged") from None


def _download(published: Any, name: str) -> dict[str, torch.Tensor]:
    try:
        return published.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"cannot download the weights of {name} ({error}): get {published.url}"
            " elsewhere and name the file as `weights`"
        ) from None
