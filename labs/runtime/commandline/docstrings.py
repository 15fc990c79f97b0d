"""The docstrings of a dataclass: those of its fields, and its own first sentence."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap


def field_docstrings(config_type: type) -> dict[str, str]:
    """The string below each field, also of base classes, as the help shows it."""
    found: dict[str, str] = {}
    for cls in reversed(config_type.__mro__[:-1]):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
        except (OSError, TypeError, SyntaxError):  # made in a shell, or by make_dataclass
            continue
        body = tree.body[0].body  # type: ignore[attr-defined]  # the source of a class is a ClassDef
        for node, following in itertools.pairwise(body):
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
                and isinstance(following.value.value, str)
            ):
                found[node.target.id] = inspect.cleandoc(following.value.value)
    return found


def own_docstring(documented: type) -> str:
    """A class's docstring; empty if it has none of its own."""
    text = documented.__doc__ or ""
    # What a dataclass without a docstring is given: its name and its fields.
    return "" if text.startswith(f"{documented.__name__}(") else inspect.cleandoc(text)


def summary(documented: type) -> str:
    """The first sentence of a class's docstring; empty if it has none of its own."""
    paragraph = " ".join(own_docstring(documented).split("\n\n")[0].split())
    return re.split(r"(?<=\.) (?=[A-Z])", paragraph)[0]
