"""Reading the values that environments return: the same when they are checked and when they run."""

from __future__ import annotations

from typing import Any

OUTCOME_KEYS = ("is_success", "collision")
"""The keys that are read from infos; all others are ignored."""


def as_number(value: Any) -> float | None:
    """A scalar of any library as a float; None if it is not one number (text, an array, ...)."""
    if type(value) is float:
        return value
    if isinstance(value, str | bytes) or getattr(value, "shape", ()) != ():
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def as_truth(value: Any) -> bool | None:
    """True or False, also for 1 and 0; None for any other value."""
    number = as_number(value)
    return bool(number) if number in (0.0, 1.0) else None


def describe_value(value: Any) -> str:
    """A value for an error message: one short line, an array by its shape and dtype."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        kind = "an array" if type(value).__module__ == "numpy" else f"a {type(value).__name__}"
        if tuple(value.shape) or kind != "an array":
            return f"{kind} of shape {tuple(value.shape)} and dtype {value.dtype}"
    text = repr(value)
    return text if len(text) <= 40 and "\n" not in text else f"a {type(value).__name__}"
