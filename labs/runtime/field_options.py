"""The fields of any dataclass as command-line options that take several values each.

An own experiment has no command line of its own: each field of its config becomes an option, with the
field's docstring as help. Several values make a grid, ``1e-4..1e-1:log`` is a range to sample.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_type_hints

import tyro

from labs.runtime.commandline.docstrings import field_docstrings, own_docstring, summary
from labs.runtime.commandline.values import (
    is_possible,
    parse_value,
    spelled,
    type_name,
    value_metavar,
)
from labs.runtime.errors import InputError
from labs.runtime.grid import Range, combinations, seed_values
from labs.runtime.options import RuntimeOptions, WordsTogether

GRID_OPTIONS = ("seeds", "samples", "until_decided", "plan")
"""Names of options besides the config's fields and the runtime's options."""

TUNED = "tuned"
"""Stands for a default that depends on the other values of the grid."""

GROUP = "group"
"""Key of a field's metadata: the heading that it stands below in the help."""

_GRID_NOTE = (
    "Several values of an option make a grid. A range such as 1e-4..1e-1:log is what --samples draws"
    " from."
)
_GRID_TITLE = "the grid"


def options_type(
    config_type: type,
    defaults: Mapping[str, Any] | None = None,
    aliases: Mapping[str, Sequence[str]] | None = None,
    plans: bool = False,
) -> type:
    """A frozen dataclass of options: each field of ``config_type``, ``seeds``, ....

    Args:
        config_type: the config. Fields of its base classes stand below a heading of their own in the
            help: the first sentence of that class's docstring.
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
    groups = _groups(config_type)
    fields: list[tuple[str, Any, Any]] = []
    for field in dataclasses.fields(config_type):
        together = field.name in words_together(config_type)
        argument = tyro.conf.arg(
            help=helps.get(field.name, ""),
            metavar="[TEXT ...]" if together else value_metavar(hints[field.name]),
            aliases=list((aliases or {}).get(field.name, ())),
        )
        value = (defaults or {}).get(field.name, _default(field, config_type))
        default = tuple(value) if together and value != TUNED else (spelled(value),)
        group = {GROUP: groups[field.name]}
        option = dataclasses.field(default=default, metadata=group)
        fields.append((field.name, Annotated[tuple[str, ...], argument], option))
    first = [name for name, *_ in fields if groups[name] == groups[fields[0][0]]]
    fields[len(first) : len(first)] = _grid_options("seed" in hints, plans)
    runtime = dataclasses.field(default_factory=RuntimeOptions)
    fields.append(("runtime", tyro.conf.OmitArgPrefixes[RuntimeOptions], runtime))
    name, doc = f"{config_type.__name__}Options", {"__doc__": own_docstring(config_type)}
    options = dataclasses.make_dataclass(name, fields, namespace=doc, frozen=True)
    options.help_note = _GRID_NOTE  # type: ignore[attr-defined]  # the help looks for it
    return options


def _groups(config_type: type) -> dict[str, str]:
    """The heading of each field in the help; empty if a single class has all fields."""
    names = [field.name for field in dataclasses.fields(config_type)]
    bases = [cls for cls in reversed(config_type.__mro__) if dataclasses.is_dataclass(cls)]
    owners = {
        name: next(cls for cls in bases if name in {f.name for f in dataclasses.fields(cls)})
        for name in names
    }
    if len(set(owners.values())) == 1:
        return dict.fromkeys(names, "")
    titles = {owner: summary(owner).partition(":")[0].rstrip(".") for owner in owners.values()}
    return {name: titles[owner][:1].lower() + titles[owner][1:] for name, owner in owners.items()}


def _grid_options(seeds: bool, plans: bool) -> list[tuple[str, Any, Any]]:
    """The options about the whole grid, in the form that ``make_dataclass`` takes."""
    found: list[tuple[str, Any, str, str, Any]] = []
    if seeds:
        help_ = "How many seeds each config runs with; several numbers are the seeds themselves."
        found.append(("seeds", tuple[int, ...], help_, "INT [INT ...]", (1,)))
        help_ = (
            "Add seeds in rounds, to the configs that may still be the best, until one is shown to be it"
            " or each has this many. The default is 20."
        )
        found.append(("until_decided", tuple[int, ...] | None, help_, "[MAX]", None))
    found.append(("samples", int | None, "How many values to draw from the ranges.", "INT", None))
    if plans:
        help_ = (
            "Print how many trials there are, how long they take and what they cost; start none."
        )
        found.append(("plan", bool, help_, "", False))
    return [
        (
            name,
            Annotated[hint, tyro.conf.arg(help=help_, metavar=metavar or None)],
            dataclasses.field(default=default, metadata={GROUP: _GRID_TITLE}),
        )
        for name, hint, help_, metavar, default in found
    ]


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
        *("runtime", "help", "help_all"),
    }
    hints = get_type_hints(config_type)
    for attribute, value in vars(config_type).items():
        public = attribute not in hints and not attribute.startswith("_")
        if public and type(value) in (bool, int, float, str, tuple):
            raise InputError(
                f"{name}.{attribute} has no type, so that it is no option: write"
                f" {attribute}: {type(value).__name__} = {value!r}"
            )
    for field in dataclasses.fields(config_type):
        if field.name in taken:
            raise InputError(
                f"{name} has a field {field.name}, which is the name of an option that every"
                " experiment has: give the field another name"
            )
        if not is_possible(hints[field.name]):
            raise InputError(
                f"{name}.{field.name} has the type {type_name(hints[field.name])}, which no option can"
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
        raise InputError("`seed` takes no range: set `seeds` to their number")
    if len(seed) > 1:
        if tuple(seeds) != (1,):
            raise InputError("`seed` has several values and `seeds` is given: use only one of them")
        return list(seed)
    return seed_values(seeds, seed[0])


def _bare_flag(hint: Any, name: str) -> tuple[str, ...]:
    """``--augment`` alone means true; for another type a value is missing."""
    if hint is bool:
        return ("true",)
    raise InputError(f"`{name}` has no value: it takes {value_metavar(hint)}")


def _default(field: dataclasses.Field[Any], config_type: type) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    raise InputError(f"{config_type.__name__}.{field.name} has no default: give it one")
