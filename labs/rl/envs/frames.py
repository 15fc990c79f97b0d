"""What environments render, as frames of a video."""

from __future__ import annotations

from typing import Any

import numpy as np

from labs.runtime.errors import InputError


class NoFramesError(InputError):
    """An environment cannot be rendered; the message says why."""


def as_frame(env_id: str, drawn: Any) -> np.ndarray:
    """What ``render`` returned in mode ``rgb_array`` as uint8 ``[height, width, 3]``.

    Of a list of frames the last one is taken. Grey values and an alpha channel are converted. Floats
    are read as 0 to 1 if none is larger, otherwise as 0 to 255.

    Raises:
        NoFramesError: it is not an image.
    """
    if isinstance(drawn, (list, tuple)) and drawn and isinstance(drawn[-1], np.ndarray):
        drawn = drawn[-1]
    try:
        frame = np.asarray(drawn)
    except ValueError:  # lists of different lengths
        frame = np.asarray(None)
    if frame.dtype.kind not in "biuf" or not (
        frame.ndim == 2 or (frame.ndim == 3 and frame.shape[2] in (1, 3, 4))
    ):
        what = f"shape {frame.shape}, dtype {frame.dtype}" if frame.ndim else repr(drawn)[:40]
        raise NoFramesError(
            f"environment {env_id} did not render an image (its render returned {what}, expected uint8"
            " of shape (height, width, 3))"
        )
    if 0 in frame.shape:
        raise NoFramesError(f"environment {env_id} rendered an empty image of shape {frame.shape}")
    if frame.dtype != np.uint8:
        values = np.nan_to_num(frame.astype(np.float64))
        if frame.dtype.kind in "bf" and values.max() <= 1:
            values = values * 255
        frame = np.rint(np.clip(values, 0, 255)).astype(np.uint8)
    if frame.ndim == 2:
        frame = frame[..., None]
    if frame.shape[2] == 4:  # over white, as a page shows it
        alpha = frame[..., 3:].astype(np.float64) / 255
        blended = frame[..., :3] * alpha + 255 * (1 - alpha)
        return np.rint(blended).astype(np.uint8)
    return np.repeat(frame, 3, axis=2) if frame.shape[2] == 1 else np.ascontiguousarray(frame)
