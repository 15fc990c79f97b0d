"""One hue per family of models, and darker is deeper, here and in every figure."""

from __future__ import annotations

from collections.abc import Iterable

from labs.analysis import style
from labs.analysis.style import Colour

_HUES = {"mlp": "Greens", "cnn": "Oranges", "rescnn": "Blues"}


def depth_shades(family: str, depths: Iterable[int]) -> dict[int, Colour]:
    """A colour per depth in the hue of the family, from light (shallow) to dark (deep)."""
    ordered = sorted(set(depths))
    return dict(zip(ordered, style.shades(_HUES[family], len(ordered)), strict=True))


def family_colour(family: str) -> Colour:
    """The colour of a family as a whole."""
    return style.shades(_HUES[family], 1)[0]
