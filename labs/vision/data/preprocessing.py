"""From uint8 images on the device to what a model sees, in batches."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from labs.vision.data.datasets import Images


class Preprocessor:
    """Turns uint8 images [N, C, H, W] into the normalised float32 that a model sees."""

    def __init__(
        self, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
    ) -> None:
        # (x - mean) / std as one multiplication and one addition.
        scale = 1 / torch.tensor(std)
        self.scale = scale.view(-1, 1, 1).to(device)
        self.offset = (-torch.tensor(mean) * scale).view(-1, 1, 1).to(device)

    def __call__(self, images: Tensor) -> Tensor:
        """uint8 [N, C, H, W] to float32 of the same shape, with channels last in memory."""
        floats = images.to(torch.float32, memory_format=torch.channels_last)
        return floats.mul_(self.scale).add_(self.offset)


def augment(images: Tensor, generator: torch.Generator, flip: bool) -> Tensor:
    """Shift each image by up to an eighth of its size, and mirror half of them.

    Args:
        images: uint8 [N, C, H, W] on any device. Pixels at the edge are repeated outwards.
        generator: of the CPU, so that every device sees the same augmentation.
        flip: whether to mirror at all.
    """
    count, channels, height, width = images.shape

    def offsets(size: int) -> Tensor:
        most = max(1, size // 8)
        return torch.randint(-most, most + 1, (count, 1), generator=generator)

    rows = (torch.arange(height) + offsets(height)).clamp_(0, height - 1)
    columns = (torch.arange(width) + offsets(width)).clamp_(0, width - 1)
    if flip:
        mirrored = torch.rand(count, 1, generator=generator) < 0.5
        columns = torch.where(mirrored, width - 1 - columns, columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    return images[
        torch.arange(count, device=images.device).view(-1, 1, 1, 1),
        torch.arange(channels, device=images.device).view(1, -1, 1, 1),
        rows.view(count, 1, height, 1),
        columns.view(count, 1, 1, width),
    ]


class DeviceImages:
    """A split for the trial's device: uint8 [N, C, H, W] and int64 labels [N].

    What would take more than half of a GPU's free memory stays in the machine's, and every batch is
    copied from there.
    """

    def __init__(self, split: Images, device: torch.device) -> None:
        self._device = device
        home = device if has_room(split.images.nbytes, device) else torch.device("cpu")
        with warnings.catch_warnings():
            # The arrays are views into Ray's object store, shared by all trials and read-only;
            # nothing here writes to them.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            self.images = torch.from_numpy(split.images).to(home)
            self.labels = torch.from_numpy(split.labels).to(home)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The images and labels of int64 row numbers [n], which are where the images are."""
        # On rows of one tensor this is several times faster than indexing.
        images, labels = self.images.index_select(0, rows), self.labels.index_select(0, rows)
        return images.to(self._device), labels.to(self._device)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images and labels in order, at most ``size`` at a time."""
        for images, labels in zip(self.images.split(size), self.labels.split(size), strict=True):
            yield images.to(self._device), labels.to(self._device)


def has_room(size: int, device: torch.device) -> bool:
    """Whether so many bytes leave half of the device's free memory to everything else."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return size <= free / 2
