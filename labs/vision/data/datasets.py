"""Image data sets as uint8 arrays: the embedded digits, MNIST, Fashion-MNIST, CIFAR-10, folders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labs.runtime.errors import InputError, require
from labs.runtime.loop.console import say
from labs.vision.data import downloads, folders
from labs.vision.data.folders import RawSplits
from labs.vision.data.images import allocate

_FEW = 100  # validation images: with fewer, one image is more than a point of accuracy
_DIGITS_TEST_SEED = 0  # the test images are the same in every run, whatever its seed


@dataclass(frozen=True)
class Images:
    """The images of one split, with their labels."""

    images: np.ndarray
    """uint8 [N, C, H, W], C-contiguous, C is 1 (grey) or 3 (RGB)."""

    labels: np.ndarray
    """int64 [N], indices into the class names."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Splits:
    """A data set, split once."""

    name: str
    """What it was loaded by: ``digits``, ..., or the path of a folder."""

    class_names: tuple[str, ...]
    flips_keep_class: bool
    """Whether a mirrored image is still of its class: true of ships, not of digits."""

    train: Images
    val: Images
    test: Images
    mean: tuple[float, ...]
    """Per channel, in units of pixel values (0 to 255), over the training split."""

    std: tuple[float, ...]
    """Per channel, as ``mean``; 1 where a channel is constant."""

    @property
    def in_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def load_dataset(
    name_or_path: str,
    data_dir: Path,
    *,
    train_size: int | None = None,
    test_size: int | None = None,
    val_fraction: float = 0.1,
    image_size: int | None = None,
    seed: int = 0,
) -> Splits:
    """Load a data set and split it, the same way for the same seed.

    The validation images are taken out of the training images, class by class in proportion; the
    test images are the data set's own (of digits, which has none, a fixed fifth).

    Args:
        name_or_path: ``digits``, ``mnist``, ``fashion-mnist``, ``cifar10``, or the path of an image
            folder ``{train,test}/<class>/`` with images of any format that Pillow reads.
        data_dir: where downloaded files are kept, in torchvision's layout.
        train_size: use only this many of the images that are not test images, drawn with ``seed``;
            validation images are taken from them. ``None``: all.
        test_size: likewise for the test images, but always the same ones.
        val_fraction: share of validation images, above 0 and below 1.
        image_size: height and width to scale to. ``None``: as they are.
        seed: of the split.

    Raises:
        InputError: there is no such data set, a file is missing, broken or altered, or the sizes
            contradict the data.
    """
    if not 0 < val_fraction < 1:
        raise InputError(f"`val_fraction` {val_fraction} must lie between 0 and 1: use 0.1")
    if image_size is not None and not 4 <= image_size <= 1024:
        raise InputError(f"`image_size` {image_size} must lie between 4 and 1024: use 32")
    require("seed", seed, seed >= 0, "0 or more")
    train, test, class_names, flips = _load(name_or_path, Path(data_dir), image_size)
    pool = np.arange(len(train))
    rng = np.random.default_rng(seed)
    if train_size is not None:
        pool = _take(train, pool, train_size, "train_size", rng)
    if test_size is not None:
        fixed = np.random.default_rng(_DIGITS_TEST_SEED)
        test = _subset(test, _take(test, np.arange(len(test)), test_size, "test_size", fixed))
    kept, held_out = _split(train.labels, pool, val_fraction, rng)
    if len(held_out) == 0 or len(kept) == 0:
        raise InputError(
            f"{name_or_path} leaves {len(kept)} training and {len(held_out)} validation images: use"
            " more images (a larger `train_size`) or another `val_fraction`"
        )
    train, val = _subset(train, kept), _subset(train, held_out)
    mean, std = channel_statistics(train.images)
    data = Splits(name_or_path, class_names, flips, train, val, test, mean, std)
    if name_or_path not in _LOADERS:
        _say_split(data, image_size)
    return data


def _say_split(data: Splits, image_size: int | None) -> None:
    """Print how a user's folder was split, and whether it has too few validation images."""
    _, height, width = data.in_shape
    taken = len(data.val) / (len(data.train) + len(data.val))
    say(
        f"{data.name}: {len(data.train)} images to train on, {len(data.val)} ({taken:.0%} of train)"
        f" held out for validation, {len(data.test)} to test; {data.num_classes} classes;"
        f" {width} x {height} pixels, {'their own size' if image_size is None else 'scaled'}"
    )
    if len(data.val) < _FEW:
        say(
            f"{data.name}: with {len(data.val)} validation images one image is"
            f" {100 / len(data.val):.1f} points of accuracy: the best trial on validation may be"
            " chosen by chance; a larger validation fraction holds out more"
        )


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of uint8 [N, C, H, W] per channel, exact, from histograms."""
    values = np.arange(256)
    means, stds = [], []
    for channel in range(images.shape[1]):
        counts = np.bincount(images[:, channel].ravel(), minlength=256)
        mean = counts @ values / counts.sum()
        std = np.sqrt(counts @ (values - mean) ** 2 / counts.sum())
        means.append(float(mean))
        stds.append(float(std) or 1.0)
    return tuple(means), tuple(stds)


def _load(
    name_or_path: str, data_dir: Path, image_size: int | None
) -> tuple[Images, Images, tuple[str, ...], bool]:
    """Training pool, test images, class names, and whether flips keep the class."""
    if name_or_path in _LOADERS:
        loader, flips = _LOADERS[name_or_path]
        raw = loader(data_dir)
        if image_size is not None:
            raw = raw._replace(
                train_images=_resize(raw.train_images, image_size),
                test_images=_resize(raw.test_images, image_size),
            )
    elif Path(name_or_path).is_dir():
        raw, flips = folders.load_folder(Path(name_or_path), image_size), True
    elif "/" in name_or_path or Path(name_or_path).exists():
        raise InputError(
            f"`dataset` {name_or_path}: there is no such folder; an image folder holds"
            " train/<class>/ and test/<class>/ with image files"
        )
    else:
        raise InputError(
            f"`dataset` {name_or_path} is unknown: use {', '.join(_LOADERS)}, or the path of an"
            " image folder"
        )
    train = Images(raw.train_images, raw.train_labels)
    return train, Images(raw.test_images, raw.test_labels), raw.class_names, flips


def _digits() -> RawSplits:
    from sklearn.datasets import load_digits  # takes a second, and only the driver needs it

    bunch = load_digits()
    images = (bunch.images * (255 / 16)).round().astype(np.uint8)[:, None]  # 0..16 in the source
    labels = bunch.target.astype(np.int64)
    fixed = np.random.default_rng(_DIGITS_TEST_SEED)
    train, test = _split(labels, np.arange(len(labels)), 0.2, fixed)
    names = tuple(str(name) for name in bunch.target_names)
    return RawSplits(images[train], labels[train], images[test], labels[test], names)


_LOADERS: dict[str, tuple[Callable[[Path], RawSplits], bool]] = {
    "digits": (lambda _: _digits(), False),
    "mnist": (lambda where: downloads.load_mnist(where, "MNIST"), False),
    "fashion-mnist": (lambda where: downloads.load_mnist(where, "FashionMNIST"), True),
    "cifar10": (lambda where: downloads.load_cifar10(where), True),
}
"""Each data set by its name, and whether a mirrored image is still of its class."""


NAMES = tuple(_LOADERS)
"""The data sets that have a name; all others are folders."""


def _resize(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 [N, C, H, W] to [N, C, size, size]."""
    if images.shape[2:] == (size, size):
        return images
    import torch
    from torch.nn.functional import interpolate

    resized = allocate(len(images), (images.shape[1], size, size))
    # In pieces of at most 64 MiB as float32, the larger of before and after.
    piece = max(1, (1 << 24) // (images.shape[1] * max(size**2, images[0, 0].size)))
    for start in range(0, len(images), piece):
        batch = torch.from_numpy(images[start : start + piece]).float()
        batch = interpolate(batch, size=(size, size), mode="bilinear", antialias=True)
        resized[start : start + piece] = batch.round_().clamp_(0, 255).byte().numpy()
    return resized


def _subset(split: Images, indices: np.ndarray) -> Images:
    return Images(np.ascontiguousarray(split.images[indices]), split.labels[indices])


def _take(
    split: Images, pool: np.ndarray, size: int, name: str, rng: np.random.Generator
) -> np.ndarray:
    """``size`` of the indices in ``pool``, every class in proportion."""
    if not 2 <= size <= len(pool):
        raise InputError(f"`{name}` {size} must lie between 2 and the {len(pool)} images there are")
    if size == len(pool):
        return pool
    _, taken = _split(split.labels, pool, size / len(pool), rng, size)
    return taken


def _split(
    labels: np.ndarray,
    pool: np.ndarray,
    fraction: float,
    rng: np.random.Generator,
    size: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the rest and of the ``fraction`` drawn, each sorted, every class in proportion."""
    size = round(len(pool) * fraction) if size is None else size
    shuffled = rng.permutation(pool)
    # Each image's rank within its class, as a share: the smallest ones are of all classes evenly.
    place = np.empty(len(shuffled))
    for label in np.unique(labels[pool]):
        members = np.flatnonzero(labels[shuffled] == label)
        place[members] = (np.arange(len(members)) + rng.random()) / len(members)
    order = np.argsort(place, kind="stable")
    return np.sort(shuffled[order[size:]]), np.sort(shuffled[order[:size]])
