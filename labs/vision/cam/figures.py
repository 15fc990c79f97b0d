"""Class activation maps over their images, and deletion curves."""

from __future__ import annotations

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from labs.analysis import style
from labs.vision.cam.maps import Deletion, Explanation, upsample

_DPI = 150  # of Run.add_figure: with it, a pixel of the image is a pixel of the file
_SMALLEST = 480  # pixels of the shorter side: smaller images are shown in whole multiples
_CURVES = {
    "most": "most important first",
    "moved": "the same map, moved",
    "random": "random pixels",
    "least": "least important first",
}
"""The name of each order of removal."""


def overlay(explanation: Explanation, factor: int = 1, strength: float = 0.55) -> np.ndarray:
    """The map over the original image, uint8 [H, W, 3] at ``factor`` times its own resolution.

    The map runs from dark violet (lowest) to dark red (highest); the image below it is grey, so that
    all colour is the map's.
    """
    grey = _enlarge(np.asarray(explanation.image.convert("L"), np.float32)[..., None], factor)
    heat = upsample(explanation.activation, *grey.shape[:2])
    colours = ScalarMappable(_scale(explanation), "turbo").to_rgba(heat, bytes=True)[..., :3]
    blended = (1 - strength) * grey + strength * colours.astype(np.float32)
    return blended.round().astype(np.uint8)


def overlay_figure(explanation: Explanation, class_names: tuple[str, ...], top: int = 3) -> Figure:
    """Original and overlay side by side with a colour bar, under the most probable classes.

    Args:
        explanation: what to show.
        class_names: of the network.
        top: number of classes in the title.
    """
    image = np.asarray(explanation.image)
    factor = max(1, -(-_SMALLEST // min(image.shape[:2])))
    factor = min(factor, max(1, 4 * _SMALLEST // max(image.shape[:2])))
    height, width = (factor * side / _DPI for side in image.shape[:2])
    shown_height, pane = max(height, 1.2), max(width, 1.6)
    font = max(9.0, 1.7 * pane)
    head, bar, gap = 4.2 * font / 72, 0.9 + font / 24, 0.15
    figure = Figure(figsize=(2 * pane + 3 * gap + bar, shown_height + head + gap), dpi=_DPI)
    full_width, full_height = figure.get_size_inches()
    mapped = f"map of {class_names[explanation.class_index]}"
    panels = (("original", _enlarge(image, factor)), (mapped, overlay(explanation, factor)))
    for column, (title, pixels) in enumerate(panels):
        left = gap + column * (pane + gap)
        axes = figure.add_axes(
            (left / full_width, gap / full_height, pane / full_width, shown_height / full_height)
        )
        axes.imshow(pixels, interpolation="nearest")
        axes.set_title(title, fontsize=font)
        axes.set_axis_off()
    where = ((2 * (pane + gap) + gap) / full_width, gap / full_height)
    scale = figure.add_axes((*where, 0.15 / full_width, shown_height / full_height))
    colours = figure.colorbar(ScalarMappable(_scale(explanation), "turbo"), cax=scale)
    colours.ax.tick_params(labelsize=0.8 * font)
    colours.set_label("contribution to the logit", fontsize=0.9 * font)
    figure.suptitle(describe(explanation, class_names, top), fontsize=1.1 * font)
    return figure


def describe(explanation: Explanation, class_names: tuple[str, ...], top: int) -> str:
    """``0.975 ship, 0.022 truck``: the most probable classes."""
    return ", ".join(f"{value:.3f} {class_names[index]}" for index, value in explanation.top(top))


def deletion_figure(deleted: Deletion, class_name: str) -> Figure:
    """The class's probability against the share of pixels removed."""
    figure = Figure(figsize=(5.6, 4), layout="constrained")
    panel = figure.subplots()
    looks = zip(_CURVES.items(), style.colours(len(_CURVES)), strict=True)
    for place, ((order, label), colour) in enumerate(looks):
        panel.plot(
            100 * deleted.fractions,
            deleted.curves[order],
            ls=style.line_style(place),
            color=colour,
            label=f"{label}: area {deleted.area(order):.3f}",
        )
    panel.set(xlabel="pixels removed, %", ylabel=f"probability of {class_name}", ylim=(-0.02, 1.02))
    panel.grid(alpha=0.3)
    panel.legend()
    return figure


def _enlarge(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Every pixel of [H, W, ...] as a square of ``factor`` x ``factor``."""
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def _scale(explanation: Explanation) -> Normalize:
    """From the lowest to the highest value of the map; a flat map is all in the middle."""
    low, high = float(explanation.activation.min()), float(explanation.activation.max())
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    return Normalize(low, high)
