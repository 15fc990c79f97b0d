"""Figures as files: labels in any script, dollar signs, long names, and what no font has."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from labs.runtime.output import pictures
from labs.runtime.output.pictures import as_png, as_svg, fallback_fonts, save, standard_style

HAN, ARABIC = "中文", "نموذج"
OTHER = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "cmr10.ttf"
"""A font that has less than the standard one, and no Chinese."""


@pytest.fixture(autouse=True)
def fonts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The fonts of the machine that runs the tests do not matter."""
    found: list[str] = []
    monkeypatch.setattr(pictures, "_font_files", lambda: found)
    fallback_fonts.cache_clear()
    return found


def drawn(label: str, ticks: Sequence[str] = ("a", "b")) -> Figure:
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.plot([1, 2], [10, 1000], label=label)
    axes.set(xlabel="cost, $", title=f"{label} of $5")
    axes.set_xticks([1, 2], ticks)
    axes.set_yscale("log")
    figure.legend(loc="outside lower center")
    return figure


def texts(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    return [text.get_text().replace("\\$", "$") for text in figure.findobj(Text)]


def test_what_no_font_has_is_spelled_out_with_a_note_and_stays_in_the_svg() -> None:
    figure = drawn(HAN, [HAN, "b"])
    svg = as_svg(figure).decode()
    assert svg.count(HAN) == 3 and "\\u4e2d" not in svg
    Image.open(io.BytesIO(as_png(figure))).verify()
    found = texts(figure)
    (axes,), (legend,) = figure.axes, figure.legends
    for text in (axes.get_xticklabels()[0], legend.get_texts()[0]):
        assert text.get_text() == "\\u4e2d\\u6587"
    assert "\\u4e2d\\u6587 of $5" in found and not any(HAN in text for text in found)
    assert any("no font of this machine has" in text for text in found)


def test_the_note_stands_below_everything_else() -> None:
    figure = drawn(HAN)
    as_png(figure)
    (legend,) = figure.legends
    note = figure.texts[-1]
    figure.draw_without_rendering()
    assert note.get_window_extent().y1 < legend.get_window_extent().y0


def test_the_standard_font_has_arabic_and_nothing_is_said() -> None:
    figure = drawn(ARABIC)
    as_png(figure)
    found = texts(figure)
    assert ARABIC in found and not any("no font" in text for text in found)


def test_another_font_is_used_for_what_the_standard_one_lacks(
    fonts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pictures._lacking
    has_han = lambda path, wanted: (  # noqa: E731
        frozenset() if path == str(OTHER) else real(path, wanted)
    )
    monkeypatch.setattr(pictures, "_lacking", has_han)
    fonts += ["/no/such/font.ttf", str(OTHER)]
    figure = drawn(HAN, [HAN, "b"])
    as_png(figure)
    assert HAN in texts(figure) and fallback_fonts("".join(sorted(set(HAN)))) == (("cmr10",), set())
    (axes,) = figure.axes
    for text in (axes.title, axes.get_xticklabels()[0], figure.legends[0].get_texts()[0]):
        assert text.get_fontfamily()[-1] == "cmr10" and len(text.get_fontfamily()) > 1


def test_a_file_that_is_no_font_has_nothing(tmp_path: Path, fonts: list[str]) -> None:
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    fonts.append(str(broken))
    assert fallback_fonts("a中") == ((), {"中"})


def test_dollar_signs_are_no_formulas_and_powers_of_ten_are() -> None:
    figure = drawn("from $x_1 to \\frac$ {", ["$a", "b$"])
    assert ">from $x_1 to \\frac$ {<" in as_svg(figure).decode()
    as_png(figure)  # Matplotlib would end with an error about \frac
    (axes,) = figure.axes
    assert axes.yaxis.get_major_formatter()(100.0, 0) == "$\\mathdefault{10^{2}}$"
    assert axes.xaxis.get_major_formatter().format_ticks([1, 2]) == ["\\$a", "b\\$"]


@pytest.mark.parametrize("letter", ["x", "中"])
def test_names_of_255_bytes_lose_their_middle(letter: str) -> None:
    name = "begin-" + letter * (240 // len(letter.encode())) + "-end"
    figure = drawn(name, [name, "b"])
    with Image.open(io.BytesIO(as_png(figure))) as image:
        assert image.width < 2500
    texts(figure)
    (axes,), (legend,) = figure.axes, figure.legends
    for text in (axes.get_xticklabels()[0], legend.get_texts()[0]):
        label = text.get_text()
        assert label.startswith("begin-") and " ... " in label and label.endswith("-end")
        assert len(label) == pictures.LONGEST_LABEL
    assert (
        len(axes.get_title()) <= pictures.LONGEST + 1
    )  # a dollar sign is written with a backslash


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_saved_in_the_format_of_the_ending(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"figure{suffix}"
    save(drawn("plain"), path)
    begin = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(begin)


def test_the_same_pixels_with_plain_labels() -> None:
    """Nothing changes where nothing needs to."""
    plain, figure = drawn("plain"), drawn("plain")
    for axes in (plain.axes[0], figure.axes[0]):
        axes.set(xlabel="cost", title="")
    buffer = io.BytesIO()
    plain.savefig(buffer, dpi=100, bbox_inches="tight")
    with Image.open(buffer) as a, Image.open(io.BytesIO(as_png(figure, dpi=100))) as b:
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_a_user_s_settings_of_matplotlib_do_not_change_figures() -> None:
    """With ``text.usetex`` a machine without LaTeX could draw none."""
    with standard_style():
        plain = as_svg(drawn("accuracy"))
    users = {"text.usetex": True, "axes.facecolor": "red", "savefig.dpi": 3}
    with matplotlib.rc_context(users):
        with standard_style():
            assert as_svg(drawn("accuracy")) == plain
        assert {name: matplotlib.rcParams[name] for name in users} == users
