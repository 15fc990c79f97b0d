"""Reading image files: upright, eight bits, RGB, or one clear sentence that names the file."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from labs.runtime.errors import InputError

MAX_PIXELS = 40_000_000
"""Larger images are refused: decoded and as float32 activations they would not fit into memory."""


Range = tuple[float, float]
"""The values that become black and white."""

_UNREADABLE = {"BUFR", "EPS", "FITS", "GRIB", "HDF5", "MPEG", "WMF"}
"""Formats that Pillow recognises, but whose pixels it cannot read without other programs."""


@dataclass(frozen=True)
class Picture:
    """An image as read, and what of its file eight bits cannot hold."""

    image: Image.Image
    """Mode RGB."""

    value_range: Range | None = None
    """The range that the values of a grey image with more than 8 bits use. It is scaled by this range
    unless another one is given. Integers use 8, 10, 12, 14, 16 or 32 whole bits from 0."""

    loss: str = ""
    """What of the file is not in the image, in words; empty where nothing is missing."""


def image_suffixes() -> frozenset[str]:
    """The file name suffixes of the formats that Pillow reads, in lower case, such as ``.webp``."""
    known = Image.registered_extensions()
    return frozenset(
        suffix.lower()
        for suffix, kind in known.items()
        if kind in Image.OPEN and kind not in _UNREADABLE
    )


def read_image(path: str | Path) -> Image.Image:
    """The image of :func:`read_picture`, scaled by its own range."""
    return read_picture(path).image


def read_picture(
    path: str | Path, draft_size: int | None = None, value_range: Range | None = None
) -> Picture:
    """The image in ``path``, as people see it: mode RGB, eight bits, turned upright.

    Grey values of more than eight bits are scaled to eight, transparent pixels are laid over white,
    and the EXIF orientation is applied.

    Args:
        path: any format that Pillow reads.
        draft_size: a JPEG may be decoded at a fraction of its size, as long as both sides keep at
            least this many pixels (several times faster for photographs).
        value_range: which values of a grey image of more than eight bits become black and white.
            ``None``: the range that its own values use.

    Raises:
        InputError: the file is missing, is not an image, is truncated, has more than
            ``MAX_PIXELS`` pixels, or holds values that are not finite.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own size limit lies above MAX_PIXELS
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise InputError(
                        f"image {path} has {image.width} x {image.height} pixels; the most that is"
                        f" read is {MAX_PIXELS // 1_000_000} million: make it smaller"
                    )
                loss = _loss(image)
                if draft_size is not None:
                    image.draft("RGB", (draft_size, draft_size))
                upright = ImageOps.exif_transpose(image)
                own = _own_range(upright, path)
                return Picture(_to_rgb(upright, value_range or own), own, loss)
    except FileNotFoundError:
        raise InputError(f"image {path} does not exist") from None
    except IsADirectoryError:
        raise InputError(f"image {path} is a directory, not an image file") from None
    except PermissionError:
        raise InputError(f"image {path} cannot be read: permission denied") from None
    except Image.DecompressionBombError:
        raise InputError(
            f"image {path} has more than {MAX_PIXELS // 1_000_000} million pixels: make it smaller"
        ) from None
    except (InputError, MemoryError):
        raise
    except Exception:  # of a broken file Pillow's decoders raise nearly anything
        raise InputError(
            f"image {path} is broken or not an image; replace or remove the file"
        ) from None


def middle_square(image: Image.Image, size: int) -> Image.Image:
    """The middle square, as large as fits, scaled to ``size`` x ``size`` pixels.

    It is cut out before it is scaled: an image of 9000 x 1 pixels takes no more memory than others.
    """
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return image.resize((size, size), Image.Resampling.BILINEAR, box=box)


def allocate(count: int, shape: tuple[int, ...]) -> np.ndarray:
    """An empty uint8 array [count, *shape].

    Raises:
        InputError: it takes more than half of this machine's memory. A data set is held about twice:
            while it is split, and in Ray's object store.
    """
    needed = count * int(np.prod(shape))
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > memory / 2:
        raise InputError(
            f"{count} images of {shape[-1]} x {shape[-2]} pixels take {needed / 1e9:.1f} GB, more"
            f" than half of this machine's {memory / 1e9:.1f} GB: give a smaller `image_size`"
        )
    return np.empty((count, *shape), np.uint8)


def resize_shorter_side(
    image: Image.Image, size: int, max_ratio: float | None = None
) -> Image.Image:
    """Scale so that the shorter side has ``size`` pixels and the proportions stay.

    ``max_ratio`` squeezes a longer side to at most that many times ``size``: an image one pixel
    wide would otherwise grow without bound.
    """
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    if max_ratio is not None:
        width, height = (min(side, int(size * max_ratio)) for side in (width, height))
    if (width, height) == image.size:
        return image
    return image.resize((width, height), Image.Resampling.BILINEAR)


def to_array(image: Image.Image, channels: int) -> np.ndarray:
    """Pixels as uint8 [channels, height, width]; ``channels`` is 1 (luminance) or 3 (RGB)."""
    if channels == 1:
        return np.array(image.convert("L"), dtype=np.uint8)[None]
    return np.ascontiguousarray(np.asarray(image.convert("RGB"), dtype=np.uint8).transpose(2, 0, 1))


def _loss(image: Image.Image) -> str:
    """What reading this opened file leaves out."""
    # Pillow keeps the upper 8 of 16 bits per colour; only the decoder's arguments show it.
    if any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())) and not _is_deep(image):
        return "colours of 16 bits are read by their upper 8"
    # The first frame of an MPO is the photo (the second a preview), of a PSD the merged layers.
    if image.format not in ("MPO", "PSD") and getattr(image, "n_frames", 1) > 1:
        return "of several frames or pages only the first is read"
    return ""


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith(("I", "F"))


def _own_range(image: Image.Image, path: str | Path) -> Range | None:
    """The range that the values of a deep grey image use; ``None`` of any other image."""
    if not _is_deep(image):
        return None
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(low) and np.isfinite(high)):  # a NaN anywhere makes both NaN
        raise InputError(f"image {path} holds values that are not finite; replace or remove it")
    if image.mode == "F" or low < 0:
        return low, high
    # The bit depths of sensors and scanners; an image that uses 11 bits is a dark one of 12.
    bits = next(bits for bits in (8, 10, 12, 14, 16, 32) if high < 2**bits)
    return 0.0, float(2**bits - 1)


def _to_rgb(image: Image.Image, value_range: Range | None) -> Image.Image:
    if _is_deep(image) and value_range is not None:  # Pillow's convert() would clip at 255
        low, high = value_range
        values = (np.asarray(image, dtype=np.float64) - low) / ((high - low) or 1.0) * 255
        return Image.fromarray(values.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
