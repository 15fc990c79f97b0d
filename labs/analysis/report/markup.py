"""Figures and tables as HTML with all text escaped."""

from __future__ import annotations

import base64
import html
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from labs.analysis.report.svg import embedded
from labs.statistics import Interval

MAX_FIGURE_BYTES = 300_000
"""An SVG that is larger is replaced by its PNG; of a PNG that is larger only the name is shown."""


def figure_html(files: Mapping[str, Path], name: str, prefix: str) -> str | None:
    """A figure for the page: its SVG, PNG or GIF; None if none of them is small enough."""
    if ".svg" in files and files[".svg"].stat().st_size <= MAX_FIGURE_BYTES:
        drawn = embedded(files[".svg"], prefix)
        if drawn is not None:
            return f'<div class="{"picture" if drawn[1] else "drawing"}">{drawn[0]}</div>'
    for suffix, kind in ((".png", "png"), (".gif", "gif")):
        if suffix in files and files[suffix].stat().st_size <= 2 * MAX_FIGURE_BYTES:
            data = base64.b64encode(files[suffix].read_bytes()).decode()
            source = f"data:image/{kind};base64,{data}"
            return f'<div class="picture"><img alt="{html.escape(name)}" src="{source}"></div>'
    return None


def drawn_html(svg: bytes, name: str, prefix: str) -> str:
    """A figure for the page from SVG that is not in a file."""
    drawn = embedded(svg, prefix)
    return (
        ""
        if drawn is None
        else f'<div class="drawing" title="{html.escape(name)}">{drawn[0]}</div>'
    )


def table_html(table: pd.DataFrame) -> str:
    """A table as HTML; ``x``, ``x_low`` and ``x_high`` share a cell."""
    intervals = [c for c in table if f"{c}_low" in table and f"{c}_high" in table]
    hidden = {f"{column}_{end}" for column in intervals for end in ("low", "high")}
    columns = [column for column in table if column not in hidden]
    numeric = {c for c in columns if pd.api.types.is_numeric_dtype(table[c])}
    lines = ["<table><thead><tr>"]
    lines += [f"<th{_right(c in numeric)}>{html.escape(str(c))}</th>" for c in columns]
    lines.append("</tr></thead><tbody>")
    for row in table.to_dict("records"):
        cells = []
        for column in columns:
            text = _cell(row[column])
            if column in intervals and text:
                ends = (row[f"{column}_low"], row[f"{column}_high"])
                text, _, interval = Interval(row[column], *ends, n=0).shown().partition(" ")
                if interval:
                    text += f' <span class="interval">{interval}</span>'
            cells.append(f"<td{_right(column in numeric)}>{text}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    lines.append("</tbody></table>")
    return "".join(lines)


def _right(numeric: bool) -> str:
    return ' class="number"' if numeric else ""


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _cell(value: Any) -> str:
    return "" if _is_missing(value) else html.escape(text_of(value))


def text_of(value: Any) -> str:
    """A value as text for the page."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
