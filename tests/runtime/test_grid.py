"""Grids: combinations, samples and seeds, from Python and from the command line."""

from __future__ import annotations

import dataclasses
import enum
import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tyro

from labs.runtime.commandline.docstrings import field_docstrings
from labs.runtime.commandline.help import print_help
from labs.runtime.errors import InputError
from labs.runtime.field_options import expand, options_type
from labs.runtime.grid import Range, grid, seed_values
from labs.runtime.machine.seeds import trial_seeds


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass(frozen=True)
class Base:
    learning_rate: float = 1e-2
    """Step size of Adam,
    in units of the loss."""


@dataclass(frozen=True)
class Trial(Base):
    width: int = 64
    """Hidden units."""
    hidden: tuple[int, ...] = (64, 64)
    pair: tuple[int, str] = (1, "a")
    augment: bool = False
    """Whether to."""
    dropout: float | None = None
    kind: Literal["adam", "sgd"] = "adam"
    colour: Colour = Colour.RED
    data: Path = Path("data")
    label: str = "x"
    seed: int = 0


def parsed(*arguments: str) -> list[Trial]:
    return expand(Trial, tyro.cli(options_type(Trial), args=list(arguments)))


def test_nothing_given_is_one_trial_of_defaults() -> None:
    default = Trial(data=Path("data").absolute())
    assert parsed() == [default]


def test_several_values_are_all_combinations_with_seeds_fastest() -> None:
    found = parsed("--learning-rate", "1e-3", "2e-2", "--width", "32", "16", "--seeds", "3")
    expected = list(itertools.product([1e-3, 2e-2], [32, 16], range(3)))
    assert [(c.learning_rate, c.width, c.seed) for c in found] == expected
    assert [c.seed for c in parsed("--seeds", "4", "9", "2")] == [4, 9, 2]
    assert [c.seed for c in parsed("--seeds", "3", "--seed", "7")] == [7, 8, 9]
    assert [c.seed for c in parsed("--seed", "7", "11")] == [7, 11]


def test_every_kind_of_field() -> None:
    one = parsed(
        *("--hidden", "8,4,2", "--pair", "3,b", "--augment", "--dropout", "0.25", "--kind", "sgd"),
        *("--colour", "BLUE", "--data", "/tmp/there", "--label", "a b,c", "--width", "1e3"),
    )
    assert one == [
        Trial(
            width=1000,
            hidden=(8, 4, 2),
            pair=(3, "b"),
            augment=True,
            dropout=0.25,
            kind="sgd",
            colour=Colour.BLUE,
            data=Path("/tmp/there"),
            label="a b,c",
        )
    ]
    several = parsed(
        "--hidden", "64", "32,16", "--augment", "no", "true", "--dropout", "none", "0.5"
    )
    assert {(c.hidden, c.augment, c.dropout) for c in several} == set(
        itertools.product([(64,), (32, 16)], [False, True], [None, 0.5])
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning-rate", "0.001,0.01"], "`learning_rate` 0.001,0.01: put spaces"),
        (["--learning-rate", "fast"], "`learning_rate` fast is not valid: it takes a number"),
        (["--learning-rate", "nan"], "`learning_rate` nan is not a number"),
        (["--width", "0.5"], "`width` 0.5 is not valid: it takes a whole number"),
        (["--width", "32", "32"], "`width` has the value 32 twice"),
        (["--learning-rate", "0.1", "1e-1"], "`learning_rate` has the value 0.1 twice"),
        (["--width"], "`width` has no value"),
        (["--augment", "maybe"], "`augment` maybe is not valid"),
        (["--kind", "rmsprop"], "`kind` rmsprop is not valid: it takes {adam,sgd}"),
        (["--colour", "GREEN"], "`colour` GREEN is not valid"),
        (["--pair", "1"], "`pair` 1 is not valid: it takes "),
        (["--seeds", "0"], "`seeds` 0 is too small"),
        (["--seeds", "2", "--seed", "1", "2"], "use only one of them"),
        (["--seeds", "1", "1"], "`seeds` has the value 1 twice"),
        (["--samples", "3"], "`samples` needs a range"),
        (["--learning-rate", "1e-3..1e-1"], "`learning_rate` 0.001..0.1 is a range"),
        (["--learning-rate", "1e-1..1e-3", "--samples", "2"], "is empty"),
        (["--learning-rate", "0..1:log", "--samples", "2"], "must be above 0"),
        (["--learning-rate", "-1..1:log", "--samples", "2"], "must be above 0"),
        (["--learning-rate", "1e-3..1e-1", "5", "--samples", "2"], "stands alone"),
        (["--learning-rate", "1e-3..1e-1", "--samples", "0"], "`samples` 0 is too small"),
        (["--seed", "1..9", "--samples", "2"], "`seed` takes no range"),
    ],
)
def test_bad_values_are_one_sentence(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match="^.*") as caught:
        parsed(*arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_more_samples_and_more_ranges_continue_the_same_sequence() -> None:
    few = parsed("--learning-rate", "1e-4..1e-1:log", "--samples", "5")
    many = parsed("--learning-rate", "1e-4..1e-1:log", "--samples", "40", "--width", "8..300")
    assert [c.learning_rate for c in many[:5]] == [c.learning_rate for c in few]
    assert len({c.learning_rate for c in many}) == 40
    seeds = parsed("--learning-rate", "1e-4..1e-1:log", "--samples", "2", "--seeds", "3")
    assert [c.learning_rate for c in seeds] == [
        r for r in (few[0], few[1]) for r in [r.learning_rate] * 3
    ]
    other = parsed("--learning-rate", "1e-4..1e-1:log", "--samples", "5", "--seed", "1")
    assert {c.learning_rate for c in other}.isdisjoint(c.learning_rate for c in few)


def test_draws_fill_the_interval_as_they_say() -> None:
    rng = np.random.default_rng(0)
    logs = np.log10([Range(1e-4, 1e-1, log=True).draw(rng) for _ in range(4000)])
    assert logs.min() >= -4 and logs.max() <= -1
    assert np.histogram(logs, 3)[0] == pytest.approx([1333] * 3, abs=150)
    flat = np.array([Range(-2, 6).draw(rng) for _ in range(4000)])
    assert np.histogram(flat, 4, (-2, 6))[0] == pytest.approx([1000] * 4, abs=130)
    whole = [Range(3, 6, whole=True).draw(rng) for _ in range(4000)]
    assert {type(v) for v in whole} == {int}
    assert np.bincount(whole)[3:] == pytest.approx([1000] * 4, abs=130)
    assert {Range(1, 4, log=True, whole=True).draw(rng) for _ in range(500)} == {1, 2, 3, 4}


def test_help_has_docstrings_types_and_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert field_docstrings(Trial)["learning_rate"] == "Step size of Adam,\nin units of the loss."
    print_help(options_type(Trial), program="trial.py", description="")
    shown = " ".join(capsys.readouterr().out.split())
    for text in (
        "--learning-rate FLOAT Step size of Adam, in units of the loss. (default: 0.01)",
        "--hidden INT,INT,...",
        "--dropout FLOAT|none",
        "--augment {true,false}",
        "--seeds INT [INT ...]",
    ):
        assert text in shown
    assert "None" not in shown


def test_from_python() -> None:
    found = grid(Trial, learning_rate=[1e-3, 1e-2], hidden=[(1,), (2, 2)], seed=range(2))
    assert [(c.learning_rate, c.hidden, c.seed) for c in found] == list(
        itertools.product([1e-3, 1e-2], [(1,), (2, 2)], [0, 1])
    )
    assert grid(Trial, hidden=(3, 4), label="abc") == [Trial(hidden=(3, 4), label="abc")]
    assert grid(Trial, width=np.array([1, 2])) == [Trial(width=1), Trial(width=2)]
    assert type(grid(Trial, width=np.array([1]))[0].width) is int
    drawn = grid(Trial, learning_rate=Range(1e-4, 1e-1, log=True), samples=3)
    assert [c.learning_rate for c in drawn] == [
        c.learning_rate for c in parsed("--learning-rate", "1e-4..1e-1:log", "--samples", "3")
    ]
    with pytest.raises(InputError, match="no field `widht`"):
        grid(Trial, widht=[1])
    with pytest.raises(InputError, match="`width` has no value"):
        grid(Trial, width=[])


def test_seed_values() -> None:
    assert seed_values([4], 3) == [3, 4, 5, 6]
    assert seed_values([5, 1]) == [5, 1]
    for given, message in [([0], "0 is too small"), ([], "no value"), ([2, 7, 2], "2 twice")]:
        with pytest.raises(InputError, match=f"`seeds`.* {message}"):
            seed_values(given)


def test_seeds_of_a_run_s_trials() -> None:
    assert trial_seeds(0, [3]) == [0, 1, 2]
    assert trial_seeds(7, [2]) == [7, 8]  # as everywhere: a row's seed is what was typed
    assert trial_seeds(7, [12, 5, 0]) == [12, 5, 0]
    for seed, seeds, message in [(0, [4, -1], "`seeds` -1"), (-2, [3], "`seed` -2")]:
        with pytest.raises(InputError, match=f"{message} must be 0 or more"):
            trial_seeds(seed, seeds)


def with_field(name: str, kind: Any, **more: Any) -> type:
    return dataclasses.make_dataclass(
        "Mine", [(name, kind, dataclasses.field(**more))], frozen=True
    )


@pytest.mark.parametrize(
    ("config_type", "message"),
    [
        (dict, "is not a dataclass"),
        (Trial(), "is not a dataclass"),
        (dataclasses.make_dataclass("Mine", [("a", int, 1)]), "@dataclass(frozen=True)"),
        (with_field("resume", str, default="x"), "a field resume"),
        (with_field("seeds", int, default=1), "a field seeds"),
        (with_field("samples", int, default=1), "a field samples"),
        (with_field("help", int, default=1), "a field help"),
        (with_field("help_all", int, default=1), "a field help_all"),
        (with_field("a", dict, default_factory=dict), "Mine.a has the type dict"),
        (with_field("a", list[int], default_factory=list), "Mine.a has the type list[int]"),
        (with_field("a", int | str, default=1), "Mine.a has the type int | str"),
        (with_field("a", int), "Mine.a has no default"),
    ],
)
def test_fields_that_no_command_line_can_have(config_type: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        options_type(config_type)
    assert message in str(caught.value)


def test_a_value_without_a_type_is_no_option_and_named() -> None:
    @dataclass(frozen=True)
    class Mine:
        width = 64
        depth: int = 3
        _cache = 2

    with pytest.raises(InputError, match=r"^Mine.width has no type, .* write width: int = 64$"):
        options_type(Mine)


def test_a_range_needs_finite_ends() -> None:
    for low, high in ((0, math.inf), (math.nan, 1), (2, 2), (3, 2)):
        with pytest.raises(InputError, match="empty"):
            Range(low, high)
