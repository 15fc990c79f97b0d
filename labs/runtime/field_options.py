"""The fields of any dataclass as command-line options that take several values each.

An own experiment has no command line of its own: each field of its config becomes an option, with the
field's docstring as help. Several values make a grid, ``1e-4..1e-1:log`` is a range to sample.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import functools
import inspect
import itertools
import math
import operator
import re
import textwrap
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro

from labs.runtime.errors import InputError
from labs.runtime.grid import Range, combinations, seed_values
from labs.runtime.options import RuntimeOptions, WordsTogether

GRID_OPTIONS = ("seeds", "samples", "until_decided", "plan")
"""What an option may be called beside the config's fields and the runtime's options."""

_NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(:log)?")
_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


TUNED = "tuned"
"""Stands for a default that depends on the other values of the grid."""


def options_type(
    config_type: type,
    defaults: Mapping[str, Any] | None = None,
    aliases: Mapping[str, Sequence[str]] | None = None,
    plans: bool = False,
) -> type:
    """A frozen dataclass of options: each field of ``config_type``, ``seeds``, ....

    Args:
        config_type: the config.
        defaults: values by field, in place of the config's own; ``TUNED`` for one that the rest of
            the config decides.
        aliases: further spellings by field, such as ``--learning-rates``.
        plans: whether there is an option ``plan``.

    Raises:
        InputError: it is not a frozen dataclass, or a field cannot be an option: because of its type, its
            name, or because it has no default.
    """
    check_config_type(config_type)
    hints, helps = get_type_hints(config_type), field_docstrings(config_type)
    fields: list[tuple[str, Any, Any]] = []
    for field in dataclasses.fields(config_type):
        together = field.name in words_together(config_type)
        argument = tyro.conf.arg(
            help=helps.get(field.name, ""),
            metavar="[TEXT ...]" if together else _metavar(hints[field.name]),
            aliases=list((aliases or {}).get(field.name, ())),
        )
        value = (defaults or {}).get(field.name, _default(field, config_type))
        default = tuple(value) if together and value != TUNED else (spelled(value),)
        fields.append(
            (field.name, Annotated[tuple[str, ...], argument], dataclasses.field(default=default))
        )
    if "seed" in hints:
        help_ = "How many seeds each config runs with; several numbers are the seeds themselves."
        argument = tyro.conf.arg(help=help_, metavar="INT [INT ...]")
        fields.append(
            ("seeds", Annotated[tuple[int, ...], argument], dataclasses.field(default=(1,)))
        )
        help_ = (
            "Add seeds in rounds, to the configs that may still be the best, until one is shown to be it"
            " or each has so many. The default number is 20."
        )
        argument = tyro.conf.arg(help=help_, metavar="[MAX]")
        hint = Annotated[tuple[int, ...] | None, argument]
        fields.append(("until_decided", hint, dataclasses.field(default=None)))
    help_ = "How many values to draw from the ranges, such as 1e-4..1e-1:log."
    argument = tyro.conf.arg(help=help_, metavar="INT")
    fields.append(("samples", Annotated[int | None, argument], dataclasses.field(default=None)))
    if plans:
        argument = tyro.conf.arg(
            help="Say how many trials there are, how long they take and what that costs, and start none."
        )
        fields.append(("plan", Annotated[bool, argument], dataclasses.field(default=False)))
    runtime = dataclasses.field(default_factory=RuntimeOptions)
    fields.append(("runtime", tyro.conf.OmitArgPrefixes[RuntimeOptions], runtime))
    return dataclasses.make_dataclass(f"{config_type.__name__}Options", fields, frozen=True)


def words_together(config_type: type) -> set[str]:
    """The fields that are marked with ``WordsTogether``."""
    hints = get_type_hints(config_type, include_extras=True)
    marks = {name: getattr(hint, "__metadata__", ()) for name, hint in hints.items()}
    return {n for n, found in marks.items() if any(isinstance(m, WordsTogether) for m in found)}


def check_config_type(config_type: Any) -> None:
    """Whether a class can be the config of an experiment.

    Raises:
        InputError: see :func:`options_type`.
    """
    if not (isinstance(config_type, type) and dataclasses.is_dataclass(config_type)):
        raise InputError(
            f"{config_type!r} is not a dataclass: decorate it with @dataclass(frozen=True)"
        )
    name = config_type.__name__
    if not config_type.__dataclass_params__.frozen:  # type: ignore[attr-defined]  # typeshed lacks it
        raise InputError(f"{name} can be changed after it was made: use @dataclass(frozen=True)")
    taken = {field.name for field in dataclasses.fields(RuntimeOptions)} | {
        *GRID_OPTIONS,
        "runtime",
    }
    hints = get_type_hints(config_type)
    for field in dataclasses.fields(config_type):
        if field.name in taken:
            raise InputError(
                f"{name} has a field {field.name}, which is the name of an option that every"
                " experiment has: give the field another name"
            )
        if not _is_possible(hints[field.name]):
            raise InputError(
                f"{name}.{field.name} has the type {_type_name(hints[field.name])}, which no option can"
                " have: use int, float, str, bool, Path, Literal, an Enum, a tuple of these, or such a"
                " type or None"
            )
        _default(field, config_type)


def expand(config_type: type, options: Any) -> list[Any]:
    """The configs that the options ask for: one per trial.

    Args:
        config_type: the experiment's config.
        options: an instance of :func:`options_type`'s class.

    Raises:
        InputError: a value that the field's type does not take, or what :func:`grid` refuses.
    """
    return [config_type(**values) for values in expand_values(config_type, options)]


def expand_values(config_type: type, options: Any) -> list[dict[str, Any]]:
    """The fields of each trial's config, without those that are ``TUNED``; see :func:`expand`."""
    hints = get_type_hints(config_type)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config_type):
        texts = getattr(options, field.name)
        if tuple(texts) == (TUNED,):
            continue
        if field.name in words_together(config_type):
            values[field.name] = [tuple(texts)]
            continue
        found = [
            parse_value(text, hints[field.name], field.name)
            for text in texts or _bare_flag(hints[field.name], field.name)
        ]
        ranges = [value for value in found if isinstance(value, Range)]
        if ranges and len(found) > 1:
            raise InputError(f"`{field.name}`: a range stands alone, without further values")
        values[field.name] = ranges[0] if ranges else found
    if "seed" in values:
        values["seed"] = _seeds(values["seed"], options.seeds)
    return combinations(values, options.samples)


def _seeds(seed: Any, seeds: Sequence[int]) -> list[int]:
    if isinstance(seed, Range):
        raise InputError("`seed` takes no range: say with `seeds` how many there are")
    if len(seed) > 1:
        if tuple(seeds) != (1,):
            raise InputError("`seed` has several values and `seeds` is given: use only one of them")
        return list(seed)
    return seed_values(seeds, seed[0])


def parse_value(text: str, hint: Any, name: str) -> Any:
    """One value of an option, as its field's type has it; a :class:`Range` for ``1..5``.

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
        return Path(text).expanduser().absolute()
    choices = _choices(hint)
    spelled = text.lower() if hint is bool else text
    if spelled in choices:
        return choices[spelled]
    raise InputError(f"`{name}` {text} is not valid: it takes {_metavar(hint).split(' ')[0]}")


def _choices(hint: Any) -> Mapping[str, Any]:
    """The values of a type that has a few, by their spelling; of another type none."""
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
        raise InputError(
            f"`{name}` {text} has {len(parts)} parts: it takes {_metavar(hint).split()[0]}"
        )
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


def _bare_flag(hint: Any, name: str) -> tuple[str, ...]:
    """``--augment`` alone means true; for another type a value is missing."""
    if hint is bool:
        return ("true",)
    raise InputError(f"`{name}` has no value: it takes {_metavar(hint)}")


def field_docstrings(config_type: type) -> dict[str, str]:
    """The string below each field, as ``help`` shows it; of base classes as well."""
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


def _default(field: dataclasses.Field[Any], config_type: type) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    raise InputError(f"{config_type.__name__}.{field.name} has no default: give it one")


def spelled(value: Any) -> str:
    """A default as it would be typed."""
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(spelled(part) for part in value)
    return "none" if value is None else str(value)


def _is_optional(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint)


def _without_none(hint: Any) -> Any:
    """``int`` of ``int | None``; a union of several types stays one, which no option can have."""
    return functools.reduce(operator.or_, [p for p in get_args(hint) if p is not type(None)])


def _is_possible(hint: Any) -> bool:
    if _is_optional(hint):
        return _is_possible(_without_none(hint))
    if get_origin(hint) is tuple:
        inner = [part for part in get_args(hint) if part is not Ellipsis]
        return bool(inner) and all(get_origin(p) is not tuple and _is_possible(p) for p in inner)
    if get_origin(hint) is Literal:
        return True
    return hint in (int, float, str, bool, Path) or (
        isinstance(hint, type) and issubclass(hint, enum.Enum)
    )


def metavar_of(hint: Any) -> str:
    """What an option of this type takes: ``INT [INT ...]`` for a tuple, ``PATH`` for ``Path | None``."""
    if _is_optional(hint):
        return metavar_of(_without_none(hint))
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        if inner[-1] is Ellipsis:
            return f"{_one(inner[0])} [{_one(inner[0])} ...]"
        return " ".join(map(_one, inner))
    return _one(hint)


def _metavar(hint: Any) -> str:
    """What a person reads: ``FLOAT [FLOAT ...]``."""
    one = _one(hint)
    return f"[{one} ...]" if hint is bool else f"{one} [{one} ...]"


def _one(hint: Any) -> str:
    if _is_optional(hint):
        return f"{_one(_without_none(hint))}|none"
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        if inner[-1] is Ellipsis:
            return f"{_one(inner[0])},{_one(inner[0])},..."
        return ",".join(map(_one, inner))
    if get_origin(hint) is Literal:
        return "{" + ",".join(map(str, get_args(hint))) + "}"
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return "{" + ",".join(hint.__members__) + "}"
    if hint is bool:
        return "{true,false}"
    return {int: "INT", float: "FLOAT", str: "TEXT", Path: "PATH"}.get(hint, _type_name(hint))


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
