"""Undoing the steps that have changed an account when a later step fails."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from labs.cluster.errors import explain
from labs.runtime.errors import InputError


class Changes:
    """Changes of an account that are undone in reverse order if the block raises."""

    def __init__(self) -> None:
        self._undo: list[tuple[str, Callable[[], object]]] = []

    def done(self, what: str, undo: Callable[[], object]) -> None:
        """Record a change that has been made, and how to undo it."""
        self._undo.append((what, undo))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            return
        left = []
        for what, undo in reversed(self._undo):
            try:
                undo()
            except Exception:  # go on with the others
                left.append(what)
        if left:
            raise InputError(
                f"{explain(error)}; these changes could not be undone: {', '.join(left)}"
            ) from None
