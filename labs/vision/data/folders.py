"""Image folders: ``{train,test}/<class>/*.{png,jpg}``."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from labs.runtime.errors import InputError
from labs.vision.data.images import center_crop, read_image, resize_shorter_side, to_array

SUFFIXES = (".png", ".jpg", ".jpeg")


class RawSplits(NamedTuple):
    """A data set as its source gives it, before any split into training and validation."""

    train_images: np.ndarray  # uint8 [N, C, H, W]
    train_labels: np.ndarray  # int64 [N]
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]


def load_folder(root: Path, image_size: int | None) -> RawSplits:
    """Decode every image below ``root`` as RGB, in threads.

    Args:
        root: holds ``train/<class>/`` and ``test/<class>/``; classes are sorted by name.
        image_size: the shorter side is scaled to it and the middle square is cut out. ``None``: the
            images must all have the same size, which is kept.

    Raises:
        InputError: a part is missing, there are fewer than two classes, train and test differ in
            classes, a class has no images, an image is broken, or sizes differ.
    """
    class_names, train_files, train_labels = _list_part(root, "train")
    test_names, test_files, test_labels = _list_part(root, "test")
    if len(class_names) < 2:
        found = f"only the class {class_names[0]!r}" if class_names else "no class folder"
        raise InputError(f"{root / 'train'} holds {found}: a data set needs at least two classes")
    if class_names != test_names:
        differing = sorted(set(class_names) ^ set(test_names))
        raise InputError(
            f"{root}: train and test have different classes ({', '.join(differing[:5])}"
            f"{', ...' if len(differing) > 5 else ''} in only one of them)"
        )
    images = _decode([*train_files, *test_files], image_size)
    count = len(train_files)
    return RawSplits(
        images[:count],
        np.array(train_labels, np.int64),
        images[count:],
        np.array(test_labels, np.int64),
        class_names,
    )


def _list_part(root: Path, part: str) -> tuple[tuple[str, ...], list[Path], list[int]]:
    folder = root / part
    if not folder.is_dir():
        raise InputError(
            f"{root} is not an image folder: it needs {part}/<class>/ with image files"
        )
    try:
        classes = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
        files: list[Path] = []
        labels: list[int] = []
        for label, directory in enumerate(classes):
            names = sorted(e.name for e in os.scandir(directory))
            found = [
                directory / name
                for name in names
                if name.lower().endswith(SUFFIXES) and not name.startswith(".")
            ]
            if not found:
                raise InputError(
                    f"{directory} holds no .png or .jpg images: every class needs some"
                )
            files += found
            labels += [label] * len(found)
    except PermissionError as error:
        raise InputError(f"{error.filename} cannot be read: permission denied") from None
    return tuple(p.name for p in classes), files, labels


def _decode(files: list[Path], image_size: int | None) -> np.ndarray:
    """All images as one uint8 array [N, 3, H, W]."""

    def decode(path: Path) -> np.ndarray:
        """One image as uint8 [3, H, W]."""
        image = read_image(path, draft_size=image_size)
        if image_size is not None:
            image = center_crop(resize_shorter_side(image, image_size), image_size)
        return to_array(image, channels=3)

    first = decode(files[0])
    images = np.empty((len(files), *first.shape), np.uint8)

    def decode_into_place(index: int) -> None:
        """Image ``index`` into its row; another size than the first one's is refused."""
        image = decode(files[index])
        if image.shape != first.shape:
            raise InputError(
                f"images differ in size: {files[0]} is {first.shape[2]} x {first.shape[1]} and"
                f" {files[index]} {image.shape[2]} x {image.shape[1]} pixels; give a common size,"
                " for instance `image_size` 64"
            )
        images[index] = image

    # Pillow releases the GIL while it decodes.
    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
        try:
            for _ in pool.map(decode_into_place, range(len(files))):
                pass
        except InputError:
            pool.shutdown(cancel_futures=True)
            raise
    return images
