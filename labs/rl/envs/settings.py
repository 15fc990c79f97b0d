"""Which environment: as a command line, a configuration and a checkpoint name it."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from labs.runtime.errors import InputError

_WORDS = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class EnvSettings:
    """An environment's id, and what its copies are made with.

    Raises:
        InputError: a keyword argument is not of the form ``key=value``, or is there twice.
    """

    env_id: str
    """An id of gymnasium's registry, or ``module:id`` for a module that registers it."""

    env_kwargs: tuple[str, ...] = ()
    """Keyword arguments of the environment, each ``key=value`` as for ``arguments``."""

    wrapper: tuple[str, ...] = ()
    """Wrappers, each ``module:Class``, that are called with the environment alone; the first one is
    the innermost."""

    def __post_init__(self) -> None:
        self.arguments()

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments by name.

        A value is what Python takes it for (``3``, ``0.5``, ``"text"``, ``(1, 2)``), where ``true``,
        ``false`` and ``none`` may be written small; anything else is a text.
        """
        found: dict[str, Any] = {}
        for text in self.env_kwargs:
            key, equals, value = text.partition("=")
            if not (equals and key.isidentifier()):
                raise InputError(
                    f"`env_kwargs` {text} is not of the form key=value, for instance gravity=-5.0"
                )
            if key in found:
                raise InputError(f"`env_kwargs` has {key} twice: leave one of them out")
            if key == "render_mode":
                raise InputError(
                    "`env_kwargs` render_mode is chosen where films are made: leave it out"
                )
            found[key] = _value(value)
        return found

    def __str__(self) -> str:
        return " ".join([self.env_id, *self.env_kwargs, *self.wrapper])


def as_settings(env: str | EnvSettings) -> EnvSettings:
    """The settings of an environment that may be given by its id alone."""
    return EnvSettings(env) if isinstance(env, str) else env


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
