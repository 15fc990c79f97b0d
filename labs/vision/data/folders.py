"""Image folders: ``{train,test}/<class>/`` with images of any format that Pillow reads.

What is not used is reported with a count: other files, further folders, second frames.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from labs.runtime.errors import InputError, similar_classes
from labs.runtime.loop.console import say
from labs.runtime.machine.cores import usable_cores
from labs.vision.data.images import (
    Picture,
    Range,
    allocate,
    image_suffixes,
    middle_square,
    read_picture,
    to_array,
)

_PARTS = ("train", "test")
_THIN = 4  # longer side / shorter side: above it, a message says that only the middle is used
_CUT = f"more than {_THIN} times as long as wide, of which only the middle square is used"


class RawSplits(NamedTuple):
    """A data set as its source gives it, before any split into training and validation."""

    train_images: np.ndarray  # uint8 [N, C, H, W]
    train_labels: np.ndarray  # int64 [N]
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]


class ImagesDifferInSize(InputError):
    """The images of a folder differ in size, and none was given to scale them to."""


def load_folder(root: Path, image_size: int | None) -> RawSplits:
    """Decode every image below ``root`` as RGB, in threads.

    Args:
        root: holds ``train/<class>/`` and ``test/<class>/``; classes are sorted by name.
        image_size: the middle square is cut out and scaled to it. ``None``: the images must all have
            the same size, which is kept.

    Grey images of more than 8 bits are all scaled by one range, the widest that any of them uses, so
    that a dark one stays darker than a bright one. Hidden files (``.DS_Store``) are skipped.

    Raises:
        InputError: a part is missing, there are fewer than two classes, train and test differ in
            classes, a class has no images, an image is broken, sizes differ, or the images do not
            fit into memory.
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
    for remark in similar_classes(class_names):
        say(f"{root}: {remark}")
    _say_unused(root, {*train_files, *test_files})
    images = _decode(root, [*train_files, *test_files], image_size)
    count = len(train_files)
    _say_duplicates(root, images[:count], images[count:])
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
        classes = _classes(folder)
        files: list[Path] = []
        labels: list[int] = []
        suffixes = image_suffixes()
        for label, directory in enumerate(classes.values()):
            found = [p for p in _visible(directory) if p.suffix.lower() in suffixes and p.is_file()]
            if not found:
                raise InputError(
                    f"{directory} holds no image files such as .png or .jpg: every class needs some"
                )
            files += found
            labels += [label] * len(found)
    except PermissionError as error:
        raise InputError(f"{error.filename} cannot be read: permission denied") from None
    return tuple(classes), files, labels


def _classes(folder: Path) -> dict[str, Path]:
    """The folders of the classes by name, in the order of the names.

    macOS and other systems write an accented letter differently, in two characters or in one: a name is
    the same in both.
    """
    classes: dict[str, Path] = {}
    for path in _visible(folder):
        if path.is_dir():
            readable = os.fsencode(path.name).decode("utf-8", "replace")
            first = classes.setdefault(unicodedata.normalize("NFC", readable), path)
            if first != path:
                raise InputError(
                    f"{folder} has two folders {path.name!r}, whose letters are encoded differently:"
                    " make them one"
                )
    return dict(sorted(classes.items()))


def _visible(directory: Path) -> list[Path]:
    """What a directory holds, sorted by name, without hidden files."""
    return sorted(p for p in directory.iterdir() if not p.name.startswith("."))


def _say_unused(root: Path, used: set[Path]) -> None:
    """Count the files and folders that are not read."""
    unused = [p for p in _visible(root) if p.is_dir() and p.name not in _PARTS]
    for part in _PARTS:
        for path in _visible(root / part):
            inside = _visible(path) if path.is_dir() else [path]
            unused += [p for p in inside if p not in used]
    kinds = Counter(
        "folder" if path.is_dir() else path.suffix.lower() or "no ending" for path in unused
    )
    if unused:
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
        _say_count(root, unused, f"not read ({listed})")


def _say_duplicates(root: Path, train: np.ndarray, test: np.ndarray) -> None:
    """Count the test images that are training images too: they raise the test accuracy."""
    known = {image.tobytes() for image in train}
    duplicates = sum(image.tobytes() in known for image in test)
    if duplicates:
        say(f"{root}: {duplicates} of {len(test)} test images are also training images")


def _say_count(root: Path, paths: Sequence[Path], what: str) -> None:
    """Print one line: how many files, what about them, and the first of them."""
    noun = "file or folder" if len(paths) == 1 else "files or folders"
    say(f"{root}: {len(paths)} {noun} {what}, such as {paths[0].relative_to(root)}")


def _decode(root: Path, files: list[Path], image_size: int | None) -> np.ndarray:
    """All images as one uint8 array [N, 3, H, W]."""

    def decode(path: Path, value_range: Range | None = None) -> tuple[np.ndarray, Picture]:
        """One image as uint8 [3, H, W], and as it was before any scaling."""
        picture = read_picture(path, image_size, value_range)
        image = picture.image if image_size is None else middle_square(picture.image, image_size)
        return to_array(image, channels=3), picture

    first, _ = decode(files[0])
    images = allocate(len(files), first.shape)

    def decode_into_place(index: int) -> tuple[Range | None, str]:
        """Decode image ``index`` into its row; returns its range of values and a remark."""
        image, picture = decode(files[index])
        if image.shape != first.shape:
            raise ImagesDifferInSize(
                f"images differ in size: {files[0]} is {first.shape[2]} x {first.shape[1]} and"
                f" {files[index]} {image.shape[2]} x {image.shape[1]} pixels; give a common size,"
                " for instance `image_size` 64"
            )
        images[index] = image
        sides = picture.image.size
        thin = image_size is not None and max(sides) > _THIN * min(sides)
        return picture.value_range, picture.loss or _CUT * thin

    # Pillow releases the GIL while it decodes.
    with ThreadPoolExecutor(min(32, usable_cores())) as pool:
        try:
            readings = list(pool.map(decode_into_place, range(len(files))))
            own = {i: read for i, (read, _) in enumerate(readings) if read is not None}
            if own:
                common = min(low for low, _ in own.values()), max(high for _, high in own.values())
                for index in own:
                    if own[index] != common:
                        images[index], _ = decode(files[index], common)
        except InputError:
            pool.shutdown(cancel_futures=True)
            raise
    if own:
        low, high = common
        scaled = f"of more than 8 bits: {low:g} to {high:g} become 0 to 255"
        _say_count(root, [files[index] for index in own], scaled)
    for remark in sorted({remark for _, remark in readings if remark}):
        them = [file for file, read in zip(files, readings, strict=True) if read[1] == remark]
        _say_count(root, them, remark)
    return images
