"""The style that all figures share."""

from __future__ import annotations

from matplotlib.figure import Figure

from labs.analysis import style


def test_lines_of_distinct_colours_can_be_distinguished_without_colour() -> None:
    axes = Figure().subplots()
    lines = [axes.plot([0, 1], [0, 1], ls=style.line_style(place))[0] for place in range(7)]
    dashes = {str(line._unscaled_dash_pattern) for line in lines}
    assert len(dashes) == len(set(style.colours(7))) == 7
