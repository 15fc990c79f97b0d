"""A user's training procedures: several as one, and what each must be like."""

from __future__ import annotations

import dataclasses
import dis
import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from labs.runtime.errors import InputError
from labs.runtime.reports import Checkpoint, Report, Train

PROCEDURE = "procedure"
"""The field of the config that selects one of several training procedures."""


@dataclass(frozen=True)
class Procedures:
    """Several training procedures as one; the config selects which."""

    by_name: Mapping[str, Train]

    def __call__(
        self, config: Any, resume: Checkpoint | None = None, **shared: Any
    ) -> Iterator[Report]:
        """The reports of the procedure that the config selects."""
        return self.select(config)(config, resume=resume, **shared)

    def select(self, config: Any) -> Train:
        """The procedure that the config selects."""
        return self.by_name[getattr(config, PROCEDURE)]


def with_procedure(config_type: type, names: Sequence[str]) -> type:
    """The config's type with one more field, which has the names as its values."""
    if PROCEDURE in {field.name for field in dataclasses.fields(config_type)}:
        raise InputError(
            f"{config_type.__name__} has a field {PROCEDURE}, which is needed to select one of several"
            " training procedures: rename the field"
        )
    field = (PROCEDURE, Literal[tuple(names)], dataclasses.field(default=names[0]))
    return dataclasses.make_dataclass(
        config_type.__name__, [field], bases=(config_type,), frozen=True
    )


def check_signature(train: Any, shared: Mapping[str, Any]) -> None:
    """Check that procedures take a config, ``resume`` and the shared arguments, and can yield reports.

    Raises:
        InputError: a procedure does not, or it is not callable.
    """
    for procedure in train.by_name.values() if isinstance(train, Procedures) else [train]:
        if not callable(procedure):
            raise InputError(
                f"{procedure!r} is not a training procedure: give a generator function"
            )
        name = getattr(procedure, "__name__", repr(procedure))
        try:
            inspect.signature(procedure).bind(None, resume=None, **shared)
        except TypeError as error:
            wanted = ", ".join(["config", "resume=None", *shared])
            raise InputError(f"{name} must take ({wanted}): {error}") from None
        if _cannot_yield(procedure):
            raise InputError(
                f"{name} is not a generator: it must yield labs.Report(step, metrics), at least once"
            )


def _cannot_yield(procedure: Any) -> bool:
    """Whether a function neither yields nor returns anything, or is asynchronous.

    A function that returns something may return a generator, which is known only when it is called.
    """
    while isinstance(procedure, functools.partial):
        procedure = procedure.func
    procedure = inspect.unwrap(procedure)
    if inspect.iscoroutinefunction(procedure) or inspect.isasyncgenfunction(procedure):
        return True
    if not inspect.isfunction(procedure) or inspect.isgeneratorfunction(procedure):
        return False
    before, returned = None, []
    for step in dis.get_instructions(procedure):
        if step.opname == "RETURN_CONST":  # Python 3.12
            returned.append(step.argval)
        elif step.opname == "RETURN_VALUE":
            is_none = before is not None and before.opname == "LOAD_CONST" and before.argval is None
            returned.append(None if is_none else ...)
        before = step
    return bool(returned) and all(value is None for value in returned)
