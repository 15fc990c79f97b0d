"""Figures as files, with readable labels: in any script, with the fonts of this machine, and not too long."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import font_manager, ft2font
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import Formatter

LONGEST = 110
LONGEST_LABEL = 50
"""Characters of a line, and of a label of an axis or a legend: the middle of a longer one is left out."""

_NOTE = "\\u...: characters that no font of this machine has; the SVG file has them"
_TICK_MATHS = "$\\mathdefault{"
"""How Matplotlib begins the powers of ten of a logarithmic axis."""


@contextlib.contextmanager
def standard_style() -> Iterator[None]:
    """Inside the block figures are drawn in Matplotlib's own style, without the user's ``matplotlibrc``.

    Its settings may need programs that this machine does not have (``text.usetex``).
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        yield


def as_png(figure: Figure, dpi: int = 150) -> bytes:
    """A figure as PNG, after :func:`make_legible`."""
    make_legible(figure)
    buffer = io.BytesIO()
    with _without_warnings_of_fonts():
        figure.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight")
    return buffer.getvalue()


def as_svg(figure: Figure) -> bytes:
    """A figure as SVG with text as text and without a background; the same figure gives the same bytes.

    Whoever shows the file has fonts of their own.
    """
    _convert(figure, _plain)
    buffer = io.BytesIO()
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "labs"}),
        _without_warnings_of_fonts(),
    ):
        figure.savefig(
            buffer, format="svg", bbox_inches="tight", transparent=True, metadata={"Date": None}
        )
    return buffer.getvalue()


def save(figure: Figure, path: Path) -> None:
    """Write a figure in the format of the file's extension.

    Raises:
        OSError: it cannot be written.
        ValueError: Matplotlib does not have the format.
    """
    if path.suffix == ".svg":
        path.write_bytes(as_svg(figure))
        return
    make_legible(figure)
    with _without_warnings_of_fonts():
        figure.savefig(path, dpi=150, bbox_inches="tight")


def make_legible(figure: Figure) -> None:
    r"""Make a figure's labels readable in a file of pixels.

    A dollar sign stays one and begins no formula. The middle of long labels is left out. Characters that the figure's
    font lacks are drawn with a font of this machine that has them; where there is none, ``\u4e2d``
    stands for them, and a note below the figure says so.
    """
    _convert(figure, _plain)
    texts = [text.get_text() for text in figure.findobj(Text)]
    texts += [label for axis in _axes(figure) for label in _labels(axis)]
    families, missing = fallback_fonts("".join(sorted({c for text in texts for c in text})))
    if families:
        _use_as_well(figure, families)
    if missing:
        gone = {ord(c): c.encode("unicode_escape").decode() for c in missing}
        _convert(figure, lambda text, longest: _plain(text.translate(gone), longest))
        _say_below(figure, _NOTE)


@lru_cache(maxsize=256)
def fallback_fonts(characters: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """Font families for the characters that the standard font lacks, and the characters in none of them.

    Args:
        characters: the characters to draw.
    """
    standard = font_manager.findfont(font_manager.FontProperties())
    left = _lacking(standard, frozenset(characters))
    families: list[str] = []
    for path in _font_files() if left else ():
        still = _lacking(path, left)
        if still != left:
            font_manager.fontManager.addfont(path)
            families.append(font_manager.FontProperties(fname=path).get_name())
            left = still
        if not left:
            break
    return tuple(families), left


def _font_files() -> list[str]:
    """Matplotlib's own list of fonts may be out of date."""
    known = {entry.fname for entry in font_manager.fontManager.ttflist}
    bundled = matplotlib.get_data_path()  # Matplotlib's own: for formulas, and one of empty boxes
    found = known | set(font_manager.findSystemFonts())
    return sorted((p for p in found if not p.startswith(bundled)), key=_how_special)


def _how_special(path: str) -> tuple[int, str]:
    """Sort key: upright fonts of normal weight without serifs come first."""
    name = path.rpartition("/")[2].lower()
    words = ("bold", "black", "light", "thin", "italic", "oblique", "condensed", "serif", "mono")
    return sum(word in name for word in words), path


def _lacking(path: str, characters: frozenset[str]) -> frozenset[str]:
    """The characters that a font file lacks; all of them if it cannot be used."""
    try:
        font = ft2font.FT2Font(path)
    except (OSError, RuntimeError):
        return characters
    if not font.scalable:  # pixels in colours, as emoji often are
        return characters
    known = font.get_charmap()
    return frozenset(c for c in characters if ord(c) not in known and c.isprintable())


def _axes(figure: Figure) -> list[Axis]:
    return [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]


def _labels(axis: Axis) -> list[str]:
    return axis.get_major_formatter().format_ticks(axis.get_majorticklocs().tolist())


def _convert(figure: Figure, convert: Callable[[str, int], str]) -> None:
    """Replace all texts; those of the axes are replaced whenever the figure is drawn."""
    labels = {id(text) for legend in figure.findobj(Legend) for text in legend.get_texts()}
    for text in figure.findobj(Text):
        longest = LONGEST_LABEL if id(text) in labels else LONGEST
        text.set_text(convert(text.get_text(), longest))
    for axis in _axes(figure):
        axis.set_major_formatter(_Converted(axis.get_major_formatter(), convert))


def _use_as_well(figure: Figure, families: Sequence[str]) -> None:
    for text in figure.findobj(Text):
        text.set_fontfamily([*text.get_fontfamily(), *families])
    for axis in _axes(figure):
        own = axis.get_major_ticks(1)[0].label1.get_fontfamily()
        axis.set_tick_params(labelfontfamily=list(dict.fromkeys([*own, *families])))


def _say_below(figure: Figure, note: str) -> None:
    with _without_warnings_of_fonts():
        figure.draw_without_rendering()  # only this computes the positions ...
    figure.set_layout_engine("none")  # ... which must not change any more
    for legend in figure.legends:  # else saving moves it to the end of the larger picture
        legend.set_bbox_to_anchor((0, 0, 1, 1), transform=figure.transFigure)
    lowest = figure.get_tightbbox().y0 - 0.1
    look: dict[str, Any] = {"fontsize": "x-small", "color": "0.3", "ha": "center", "va": "top"}
    figure.text(0.5, lowest / figure.get_size_inches()[1], note, **look)


def _plain(text: str, longest: int) -> str:
    """A label without a formula (except those of formatters), and with a limited length."""
    if text.startswith(_TICK_MATHS):
        return text
    lines = [_short(line, longest) for line in text.replace("\\$", "$").split("\n")]
    return "\n".join(lines).replace("$", "\\$")


def _short(line: str, longest: int) -> str:
    half = longest // 2
    return line if len(line) <= longest else f"{line[: half - 2]} ... {line[3 - half :]}"


@contextlib.contextmanager
def _without_warnings_of_fonts() -> Iterator[None]:
    """No warnings of fonts: missing characters are replaced, and any weight of a fallback font will do."""
    logger = logging.getLogger(font_manager.__name__)
    before = logger.level
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(before)


class _Converted(Formatter):
    """Another formatter whose labels are converted."""

    def __init__(self, formatter: Formatter, convert: Callable[[str, int], str]) -> None:
        self.inner, self._convert = formatter, convert

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __call__(self, x: float, pos: int | None = None) -> str:
        return self._convert(self.inner(x, pos), LONGEST_LABEL)

    def format_ticks(self, values: Any) -> list[str]:
        return [self._convert(label, LONGEST_LABEL) for label in self.inner.format_ticks(values)]

    def set_locs(self, locs: Any) -> None:
        self.inner.set_locs(locs)

    def set_axis(self, axis: Any) -> None:
        self.inner.set_axis(axis)

    def get_offset(self) -> str:
        return self.inner.get_offset()
