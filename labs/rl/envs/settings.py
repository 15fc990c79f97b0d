"""The settings of an environment, as they appear on command lines, in configs and in checkpoints."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from labs.runtime.errors import InputError

_WORDS = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class EnvSettings:
    """An environment's id, its keyword arguments and its wrappers.

    Raises:
        InputError: a keyword argument is not of the form ``key=value``, or is given twice.
    """

    env_id: str
    """An id of gymnasium's registry, or ``module:id`` for a module that registers it."""

    env_kwargs: tuple[str, ...] = ()
    """Keyword arguments of the environment, each ``key=value``; ``arguments`` parses them."""

    wrapper: tuple[str, ...] = ()
    """Wrappers, each ``module:Class``, called with the environment as their only argument; the first
    is the innermost."""

    def __post_init__(self) -> None:
        self.arguments()

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments by name.

        A value is a Python literal (``3``, ``0.5``, ``"text"``, ``(1, 2)``), where ``true``, ``false``
        and ``none`` may be in lower case; anything else is a string.
        """
        found: dict[str, Any] = {}
        for text in self.env_kwargs:
            key, equals, value = text.partition("=")
            if not (equals and key.isidentifier()):
                raise InputError(
                    f"`env_kwargs` {text} is not of the form key=value, for instance gravity=-5.0"
                )
            if key in found:
                raise InputError(f"`env_kwargs` has {key} twice: remove one of them")
            if key == "render_mode":
                raise InputError(
                    "`env_kwargs` render_mode is set automatically for videos: leave it out"
                )
            found[key] = _value(value)
        return found

    def __str__(self) -> str:
        return " ".join([self.env_id, *self.env_kwargs, *self.wrapper])


def as_settings(env: str | EnvSettings) -> EnvSettings:
    """Settings from an id, or the settings themselves."""
    return EnvSettings(env) if isinstance(env, str) else env


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
