"""Steps that change an account, and how they are undone when a later step fails."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from labs.cluster.errors import explain
from labs.runtime.errors import InputError


class Changes:
    """Changes of an account that are undone, the last one first, when the block fails."""

    def __init__(self) -> None:
        self._undo: list[tuple[str, Callable[[], object]]] = []

    def done(self, what: str, undo: Callable[[], object]) -> None:
        """Remember how to undo a change that was just made."""
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
            except Exception:  # the others are still undone
                left.append(what)
        if left:
            raise InputError(
                f"{explain(error)}; these changes could not be undone: {', '.join(left)}"
            ) from None
