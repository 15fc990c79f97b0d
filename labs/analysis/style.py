"""The style of all figures: colours, bands, axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator

Colour = tuple[float, float, float, float]

# Okabe and Ito's palette for all kinds of colour vision, reordered so that neighbours also differ
# in grey. Its yellow is left out, because it is not visible on white.
_DISTINCT = ("#0072B2", "#E69F00", "#000000", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
LineStyle = str | tuple[int, tuple[int, ...]]
"""As matplotlib takes it: a name, or an offset with the lengths of dashes and gaps in points."""

# One for each of the distinct colours.
_LINES: tuple[LineStyle, ...] = (
    "-", "--", "-.", ":", (0, (9, 2)), (0, (6, 2, 1, 2, 1, 2)), (0, (1, 4)),
)  # fmt: skip
_BAND_ALPHA = 0.18


def colours(count: int) -> list[Colour]:
    """Colours for ``count`` things without an order, for instance configs."""
    if count <= len(_DISTINCT):
        return [matplotlib.colors.to_rgba(name) for name in _DISTINCT[:count]]
    return [matplotlib.colormaps["turbo"](place) for place in np.linspace(0.05, 0.95, count)]


def shades(hue: str, count: int) -> list[Colour]:
    """``count`` colours of one of matplotlib's sequential maps, from light to dark."""
    colormap = matplotlib.colormaps[hue]
    if count == 1:
        return [colormap(0.7)]
    return [colormap(0.4 + 0.55 * place / (count - 1)) for place in range(count)]


def line_style(place: int) -> LineStyle:
    """The style of line number ``place``, so that lines can be distinguished without colours."""
    return _LINES[place % len(_LINES)]


def draw_band(
    axes: Axes,
    x: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    colour: Colour | str,
    step: Literal["pre", "post", "mid"] | None = None,
) -> None:
    """Draw the band around a line in its colour; ``step`` as for the line, None for a plain line."""
    axes.fill_between(x, low, high, color=colour, alpha=_BAND_ALPHA, linewidth=0, step=step)


def explain(figure: Figure, text: str) -> None:
    """Explain above a figure what its lines and bands are."""
    figure.suptitle(text, fontsize="small", color="0.3")


def name_ticks(axes: Axes, names: Sequence[str]) -> None:
    """Names along the x axis, at 0, 1, ...; slanted if they would overlap."""
    figure, cell = axes.get_figure(root=True), axes.get_subplotspec()
    assert figure is not None
    room = 8 * figure.get_size_inches()[0] / (cell.get_geometry()[1] if cell else 1)
    axes.set_xticks(range(len(names)), list(names))
    if max(len(ascii(name)) for name in names) * len(names) > room:
        for label in axes.get_xticklabels():
            label.set(rotation=30, ha="right", rotation_mode="anchor")


def plain_log_axis(axes: Axes, ticks: Sequence[float]) -> None:
    """Make the x axis logarithmic, with exactly these ticks, labelled with plain numbers."""
    axes.set_xscale("log")
    axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
