"""Reading image files: upright, eight bits, RGB, or one clear sentence that names the file."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from labs.runtime.errors import InputError

MAX_PIXELS = 40_000_000
"""Larger images are refused: decoded and as float32 activations they would not fit into memory."""


def read_image(path: str | Path, draft_size: int | None = None) -> Image.Image:
    """The image in ``path``, as people see it: mode RGB, eight bits, turned upright.

    Sixteen-bit values are scaled to eight, transparent pixels are laid over white, and the EXIF
    orientation is applied.

    Args:
        path: any format that Pillow reads.
        draft_size: a JPEG may be decoded at a fraction of its size, as long as both sides keep at
            least this many pixels (several times faster for photographs).

    Raises:
        InputError: the file is missing, is not an image, is truncated, or has more than
            ``MAX_PIXELS`` pixels.
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
                if draft_size is not None:
                    image.draft("RGB", (draft_size, draft_size))
                return _to_rgb(ImageOps.exif_transpose(image))
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
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"image {path} is broken or not an image; replace or remove the file"
        ) from None


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


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """The middle ``size`` x ``size`` pixels."""
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def to_array(image: Image.Image, channels: int) -> np.ndarray:
    """Pixels as uint8 [channels, height, width]; ``channels`` is 1 (luminance) or 3 (RGB)."""
    if channels == 1:
        return np.array(image.convert("L"), dtype=np.uint8)[None]
    return np.ascontiguousarray(np.asarray(image.convert("RGB"), dtype=np.uint8).transpose(2, 0, 1))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):  # 16 bits (or more): Pillow's convert() would clip at 255
        values = np.asarray(image, dtype=np.float64)
        if image.mode == "F":
            low, high = float(values.min()), float(values.max())
            values = (values - low) / ((high - low) or 1.0) * 255
        else:
            values = values / 257
        return Image.fromarray(values.round().clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
