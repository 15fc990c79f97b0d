"""The configs of a grid: all combinations of a dataclass's values, drawn samples, and seeds."""

from __future__ import annotations

import dataclasses
import itertools
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from labs.runtime.errors import InputError

C = TypeVar("C")


@dataclass(frozen=True)
class Range:
    """An interval that samples are drawn from.

    Raises:
        InputError: the interval is empty, or logarithmic and not positive.
    """

    low: float
    high: float
    log: bool = False
    """Whether the logarithm is distributed uniformly, instead of the value."""
    whole: bool = False
    """Whether only whole numbers are drawn, from ``low`` to ``high`` inclusive."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(f"the range {self} is empty: its first number must be the smaller one")
        if self.log and self.low <= 0:
            raise InputError(f"the range {self} is logarithmic, so both numbers must be above 0")

    def __str__(self) -> str:
        return f"{self.low:g}..{self.high:g}" + (":log" if self.log else "")

    def draw(self, rng: np.random.Generator) -> float | int:
        """Draw one value."""
        low, high = self.low, self.high
        if self.whole:  # an interval of length 1 around each whole number, for equal probabilities
            low, high = low - 0.5, high + 0.5
            if self.log:
                low = max(low, 0.5)
        ends = (math.log(low), math.log(high)) if self.log else (low, high)
        value = rng.uniform(*ends)
        value = math.exp(value) if self.log else value
        value = min(max(round(value) if self.whole else value, self.low), self.high)
        return int(value) if self.whole else float(value)


def grid(config_type: type[C], *, samples: int | None = None, **values: Any) -> list[C]:
    """All combinations of some fields' values, the first field varying slowest.

    >>> labs.grid(Trial, learning_rate=[1e-3, 1e-2], seed=range(5))

    Args:
        config_type: frozen dataclass; a field that is not given keeps its default.
        samples: how many times the ranges are drawn, for each combination of the other values. All
            seeds get the same samples. More samples continue the same sequence.
        values: by field: one value, a list of values, or a :class:`Range`. A string or a tuple is one
            value.

    Returns:
        One config per trial. Seeds vary fastest, so that the repeats of a config are adjacent.

    Raises:
        InputError: an unknown field, no value for a field, a value given twice, samples without a
            range, or a range without samples.
    """
    fields = {field.name: field for field in dataclasses.fields(config_type) if field.init}  # type: ignore[arg-type]  # C is a dataclass
    unknown = [name for name in values if name not in fields]
    if unknown:
        raise InputError(f"{config_type.__name__} has no field `{unknown[0]}`: {', '.join(fields)}")
    return [config_type(**chosen) for chosen in combinations(values, samples)]


def combinations(values: Mapping[str, Any], samples: int | None = None) -> list[dict[str, Any]]:
    """The fields' values of each config that :func:`grid` makes, one dict per config.

    Raises:
        InputError: no value for a field, a value given twice, samples without a range, or a range
            without samples.
    """
    ranges = {name: value for name, value in values.items() if isinstance(value, Range)}
    lists = {name: _several(name, value) for name, value in values.items() if name not in ranges}
    _check_samples(samples, ranges)
    seeds = lists.pop("seed", None)
    base = int(seeds[0]) if seeds else 0
    drawn = [_sample(ranges, base, index) for index in range(samples or 0)] or [{}]
    found = []
    for combination in itertools.product(*lists.values()):
        for sample in drawn:
            fixed = dict(zip(lists, combination, strict=True)) | sample
            for seed in [None] if seeds is None else seeds:
                found.append({**fixed, **({} if seed is None else {"seed": seed})})
    return found


def _several(name: str, value: Any) -> list[Any]:
    """The values of a field: those in a list, a range or an array; anything else is one value."""
    several = list(value) if isinstance(value, (list, range, np.ndarray)) else [value]
    several = [v.item() if isinstance(v, np.generic) else v for v in several]
    if not several:
        raise InputError(f"`{name}` has no value: give it at least one")
    for index, one in enumerate(several):
        if any(one == other and type(one) is type(other) for other in several[:index]):
            raise InputError(f"`{name}` has the value {one} twice: give no value twice")
    return several


def _check_samples(samples: int | None, ranges: Mapping[str, Range]) -> None:
    if samples is None and ranges:
        name, found = next(iter(ranges.items()))
        raise InputError(
            f"`{name}` {found} is a range: set `samples` to the number of values to draw"
        )
    if samples is not None and not ranges:
        raise InputError("`samples` needs a range to draw from, such as 1e-4..1e-1:log")
    if samples is not None and samples < 1:
        raise InputError(f"`samples` {samples} is too small: use 1 or more")


def _sample(ranges: Mapping[str, Range], seed: int, index: int) -> dict[str, float | int]:
    """Sample number ``index``. Each field has its own random stream, independent of other fields."""
    return {
        name: found.draw(np.random.default_rng([abs(seed), index, zlib.crc32(name.encode())]))
        for name, found in ranges.items()
    }


def seed_values(seeds: Sequence[int], seed: int = 0) -> list[int]:
    """The seeds for ``--seeds``: one number is how many seeds, several are the seeds themselves.

    Args:
        seeds: the values of the option.
        seed: the first seed, if ``seeds`` is their number.

    Raises:
        InputError: a count below 1, no number at all, or one twice.
    """
    if len(seeds) != 1:
        return _several("seeds", list(seeds))
    if seeds[0] < 1:
        raise InputError(f"`seeds` {seeds[0]} is too small: use 1 or more")
    return list(range(seed, seed + seeds[0]))
