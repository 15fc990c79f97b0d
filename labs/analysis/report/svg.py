"""SVG figures inside a page: without scripts and external references, and with unique identifiers."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_KEPT = frozenset(
    [
        "svg",
        "g",
        "defs",
        "path",
        "use",
        "text",
        "tspan",
        "clipPath",
        "rect",
        "circle",
        "ellipse",
        "line",
        "polyline",
        "polygon",
        "image",
        "linearGradient",
        "radialGradient",
        "stop",
        "style",
    ]
)
_POINTS = re.compile(r"([0-9.]+)pt")
_PIXELS_PER_POINT = 1.5  # 4 / 3 would be the size on paper; this is easier to read on a screen
_REFERENCE = re.compile(r"url\(\s*['\"]?#([^)'\"]+)['\"]?\s*\)")


def embedded(source: Path | bytes, prefix: str) -> tuple[str, bool] | None:
    """The ``<svg>`` element for a page, and whether it contains pixels; None if it cannot be read.

    Args:
        source: the SVG, or its file.
        prefix: prefix of all its identifiers, so that two figures on a page have none in common.

    Everything that a drawing does not need (scripts, event handlers, external links) is removed, because
    the file may come from somebody else.
    """
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
        root = ElementTree.fromstring(content)
    except (OSError, ElementTree.ParseError):
        return None
    if root.tag != f"{_SVG}svg":
        return None
    _clean(root, prefix)
    pixels = root.find(f".//{_SVG}image") is not None
    width = _POINTS.fullmatch(root.attrib.pop("width", ""))
    root.attrib.pop("height", None)  # the viewBox keeps the proportions
    if width is not None:  # the size of the drawing, or smaller on a small screen
        root.set("style", f"max-width: {float(width[1]) * _PIXELS_PER_POINT:.0f}px")
    root.set("role", "img")
    ElementTree.register_namespace("", _SVG[1:-1])
    return ElementTree.tostring(root, encoding="unicode"), pixels


def _clean(element: ElementTree.Element, prefix: str) -> None:
    for child in list(element):
        name = child.tag.removeprefix(_SVG) if isinstance(child.tag, str) else ""
        if name not in _KEPT or (name == "style" and "@import" in (child.text or "")):
            element.remove(child)
        else:
            _clean(child, prefix)
    for name, value in list(element.attrib.items()):
        plain = name.rpartition("}")[2]
        if plain.lower().startswith("on"):
            del element.attrib[name]
        elif plain == "id":
            element.set(name, f"{prefix}-{value}")
        elif name == _LINK or plain == "href":
            del element.attrib[name]
            if value.startswith("#"):
                element.set("href", f"#{prefix}-{value[1:]}")
            elif value.startswith("data:image/"):
                element.set("href", value)
        elif "url(" in value:
            element.set(name, _REFERENCE.sub(rf"url(#{prefix}-\1)", value))
