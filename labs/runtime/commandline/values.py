"""Values of options: their types, how they are written, and how they are parsed."""

from __future__ import annotations

import enum
import functools
import math
import operator
import re
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from labs.runtime.errors import InputError
from labs.runtime.grid import Range
from labs.runtime.options import expand_user

_NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(:log)?")
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def parse_value(text: str, hint: Any, name: str) -> Any:
    """Parse one value of an option to its field's type; ``1..5`` becomes a :class:`Range`.

    Raises:
        InputError: the text is not such a value; names the field and what it takes.
    """
    if _is_optional(hint):
        if text.lower() == "none":
            return None
        hint = _without_none(hint)
    if hint in (int, float):
        if match := _RANGE.fullmatch(text):
            low, high = (_number(end, hint, name) for end in match.groups()[:2])
            return Range(low, high, log=match[3] is not None, whole=hint is int)
        return _number(text, hint, name)
    if get_origin(hint) is tuple:
        return _parse_tuple(text, hint, name)
    if hint is str:
        return text
    if hint is Path:
        return expand_user(text).absolute()
    choices = _choices(hint)
    spelled = text.lower() if hint is bool else text
    if spelled in choices:
        return choices[spelled]
    raise InputError(f"`{name}` {text} is not valid: it takes {value_metavar(hint)}")


def _choices(hint: Any) -> Mapping[str, Any]:
    """The values of a type with few values, by their spelling; empty for other types."""
    if hint is bool:
        return _WORDS
    if get_origin(hint) is Literal:
        return {str(choice): choice for choice in get_args(hint)}
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint.__members__
    return {}


def _parse_tuple(text: str, hint: Any, name: str) -> tuple[Any, ...]:
    inner = get_args(hint)
    parts = [part for part in text.strip("()").split(",") if part.strip()]
    if len(inner) == 2 and inner[1] is Ellipsis:
        kinds = [inner[0]] * len(parts)
    elif len(inner) == len(parts):
        kinds = list(inner)
    else:
        raise InputError(f"`{name}` {text} is not valid: it takes {value_metavar(hint)}")
    return tuple(parse_value(part.strip(), k, name) for part, k in zip(parts, kinds, strict=True))


def _number(text: str, kind: type, name: str) -> Any:
    if "," in text:
        raise InputError(f"`{name}` {text}: put spaces between several values, not commas")
    try:
        value = float(text) if kind is float else int(text)
    except ValueError:
        whole = kind is int and re.fullmatch(_NUMBER, text) and float(text).is_integer()
        if not whole:  # 1e3 is a whole number, 0.5 is not
            takes = "a whole number" if kind is int else "a number"
            raise InputError(f"`{name}` {text} is not valid: it takes {takes}") from None
        value = int(float(text))
    if math.isnan(value):
        raise InputError(f"`{name}` {text} is not a number")
    return value


def spelled(value: Any) -> str:
    """A default as it would be typed."""
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(spelled(part) for part in value)
    return "none" if value is None else str(value)


def is_possible(hint: Any) -> bool:
    """Whether an option can have this type."""
    if _is_optional(hint):
        return is_possible(_without_none(hint))
    if get_origin(hint) is tuple:
        inner = [part for part in get_args(hint) if part is not Ellipsis]
        return bool(inner) and all(get_origin(p) is not tuple and is_possible(p) for p in inner)
    if get_origin(hint) is Literal:
        return True
    return hint in (int, float, str, bool, Path) or (
        isinstance(hint, type) and issubclass(hint, enum.Enum)
    )


def metavar_of(hint: Any) -> str:
    """What an option of this type takes: ``INT [INT ...]``, ``{a,b} ...``, ``PATH`` for ``Path | None``."""
    if _is_optional(hint):
        return metavar_of(_without_none(hint))
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        if inner[-1] is Ellipsis:
            one = value_metavar(inner[0])
            return f"{one} ..." if one.startswith("{") else f"{one} [{one} ...]"
        return " ".join(map(value_metavar, inner))
    return value_metavar(hint)


def value_metavar(hint: Any) -> str:
    """How one value of this type is typed: ``FLOAT|none``, ``INT,INT,...``, ``{tanh,relu}``."""
    if _is_optional(hint):
        return f"{value_metavar(_without_none(hint))}|none"
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        if inner[-1] is Ellipsis:
            return f"{value_metavar(inner[0])},{value_metavar(inner[0])},..."
        return ",".join(map(value_metavar, inner))
    if get_origin(hint) is Literal:
        return "{" + ",".join(map(str, get_args(hint))) + "}"
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return "{" + ",".join(hint.__members__) + "}"
    if hint is bool:
        return "{true,false}"
    return {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}.get(hint, type_name(hint))


def type_name(hint: Any) -> str:
    """A type as it is written in an annotation."""
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)


def _is_optional(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint)


def _without_none(hint: Any) -> Any:
    """``int`` of ``int | None``; a union of several types stays one, which no option can have."""
    return functools.reduce(operator.or_, [p for p in get_args(hint) if p is not type(None)])
