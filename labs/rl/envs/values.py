"""What environments return, read the same way when they are checked and when they run."""

from __future__ import annotations

from typing import Any

OUTCOME_KEYS = ("is_success", "collision")
"""What is read of an info; whatever else it holds may have any form."""


def as_number(value: Any) -> float | None:
    """One number of any library's as a float; None where it is none: text, an array with a shape, ..."""
    if type(value) is float:
        return value
    if isinstance(value, str | bytes) or getattr(value, "shape", ()) != ():
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def as_truth(value: Any) -> bool | None:
    """True or False, which may be written as 1 or 0; None where it is neither."""
    number = as_number(value)
    return bool(number) if number in (0.0, 1.0) else None


def told(value: Any) -> str:
    """A value as an error shows it: in one short line, with its shape where it has one."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        kind = "an array" if type(value).__module__ == "numpy" else f"a {type(value).__name__}"
        if tuple(value.shape) or kind != "an array":
            return f"{kind} of shape {tuple(value.shape)} and dtype {value.dtype}"
    text = repr(value)
    return text if len(text) <= 40 and "\n" not in text else f"a {type(value).__name__}"
