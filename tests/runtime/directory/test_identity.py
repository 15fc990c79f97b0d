"""Who a trial is, how a grid grows, and what tells data apart."""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labs.runtime.directory.identity import fingerprint, identity, match_trials, plain
from labs.runtime.errors import InputError


class Colour(enum.Enum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    width: int = 8
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True)
class Config:
    rate: float = 0.1
    seed: int = 0
    where: Path = Path("data")
    inner: Inner = field(default_factory=Inner)


def test_a_config_is_plain_and_its_identity_is_of_the_values(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = plain(Config(inner=Inner(8, (3, 4))))
    assert found == {
        "rate": 0.1,
        "seed": 0,
        "where": str(tmp_path / "data"),
        "inner": {"width": 8, "sizes": [3, 4]},
    }
    assert identity(found) == identity(dict(reversed(found.items())))
    assert identity({"rate": 1}) == identity({"rate": 1.0}) != identity({"rate": True})
    assert identity({"rate": 0.1}) != identity({"rate": 0.1 + 1e-16})
    assert plain((Colour.RED, np.float32(0.5), np.arange(2), torch.float16, {3, 1})) == [
        *("red", 0.5, [0, 1], "torch.float16", [1, 3])
    ]
    assert len(identity(found)) == 16


def grid(rates: list[float], seeds: list[int], **more: Any) -> list[Config]:
    return [Config(rate=r, seed=s, **more) for r in rates for s in seeds]


def test_a_grid_that_grows_keeps_numbers_and_names() -> None:
    first, _ = match_trials([], grid([0.1], [0, 1]))
    assert [(t.number, t.name) for t in first] == [(0, "000-seed=0"), (1, "001-seed=1")]
    second, _ = match_trials(first, grid([0.2, 0.1], [1, 0]))
    assert second[:2] == first
    assert [t.name for t in second[2:]] == ["002-rate=0.2-seed=1", "003-rate=0.2-seed=0"]
    third, configs = match_trials(second, grid([0.1, 0.2, 0.3], [0, 1, 2]))
    assert third[:4] == second
    assert [t.number for t in third] == list(range(9))
    assert [(c.rate, c.seed) for c in configs] == [
        (t.config["rate"], t.config["seed"]) for t in third
    ]
    once, _ = match_trials([], grid([0.1, 0.2, 0.3], [0, 1, 2]))
    assert {t.identity for t in once} == {t.identity for t in third}
    assert match_trials(third, list(reversed(configs))) == (third, configs)


def test_a_grid_of_one_is_called_trial() -> None:
    assert match_trials([], [Config()])[0][0].name == "000-trial"


def test_a_trial_that_is_not_in_the_grid_is_named_with_both_values() -> None:
    """Field case X3: an edited preset."""
    recorded, _ = match_trials([], grid([0.1, 0.2], [0]))
    changed = [Config(rate=0.2), Config(rate=0.1, inner=Inner(width=32))]
    with pytest.raises(
        InputError, match=r"`width` is 32 here and 8 in trial 000-rate=0\.1 of the run;"
    ):
        match_trials(recorded, changed)
    with pytest.raises(InputError, match=r"trial 001-rate=0\.2 of the run is not in this grid"):
        match_trials(recorded, grid([0.1], [0]))
    with pytest.raises(InputError, match=r"`rate` is 0\.5 here .*and 1 more fields differ"):
        match_trials(recorded, [Config(rate=0.1), Config(rate=0.5, seed=3)])

    @dataclass(frozen=True)
    class Later(Config):
        dropout: float = 0.0

    later = [Later(**vars(config)) for config in grid([0.1, 0.2], [0])]
    with pytest.raises(InputError, match=r"`dropout` is 0\.0 here and missing in trial 000"):
        match_trials(recorded, later)


def test_an_invalid_grid_is_refused() -> None:
    with pytest.raises(InputError, match="same trial twice"):
        match_trials([], [Config(), Config(rate=0.1)])
    with pytest.raises(InputError, match="empty"):
        match_trials([], [])
    with pytest.raises(InputError, match="frozen dataclass, not a dict"):
        match_trials([], [{"rate": 0.1}])

    @dataclass
    class Mutable:
        rate: float = 0.1

    with pytest.raises(InputError, match=r"Mutable is not frozen: .*frozen=True"):
        match_trials([], [Mutable()])

    @dataclass(frozen=True)
    class Odd:
        model: Any = None

    with pytest.raises(InputError, match="`model` is a Linear, which is not allowed in a config"):
        match_trials([], [Odd(torch.nn.Linear(1, 1))])


@pytest.mark.parametrize(
    "name",
    [
        *("trial", "name", "status", "error", "step", "seconds", "checkpoint"),
        *("peak_gib", "peak_gpu_gib"),
    ],
)
def test_a_field_with_the_name_of_a_column_is_refused(name: str) -> None:
    kind = dataclasses.make_dataclass("Kind", [(name, int, 0)], frozen=True)
    with pytest.raises(InputError, match=f"`{name}` is a column"):
        match_trials([], [kind()])


def test_data_are_identified_by_their_content() -> None:
    generator = np.random.default_rng(0)
    images = generator.normal(size=(5, 3)).astype(np.float32)
    data = {"x": images, "names": ("a", "bc"), "nested": Inner(), "labels": torch.arange(4)}
    same = {"labels": torch.arange(4), "nested": Inner(), "names": ("a", "bc"), "x": images.copy()}
    assert fingerprint(data) == fingerprint(same)
    changes: list[dict[str, Any]] = [
        {"x": images.reshape(3, 5)},
        {"x": images.astype(np.float64)},
        {"x": np.where(np.arange(3) == 2, images + 1e-6, images)},
        {"names": ("ab", "c")},
        {"names": ("a", "bc", "")},
        {"nested": Inner(width=9)},
        {"labels": torch.arange(4).int()},
        {"labels": torch.tensor([0, 1, 3, 2])},
        {"names": np.array(["a", "d"], dtype=object)},
        {"more": 1},
    ]
    prints = {fingerprint(data | change) for change in changes}
    assert len(prints) == len(changes) and fingerprint(data) not in prints


@dataclass(frozen=True)
class Smoothed:
    label: float = 0.1
    smooth: str = "no"


@dataclass(frozen=True)
class Labelled:
    rate: float = 0.1

    @property
    def label(self) -> str:
        return f"rate {self.rate}"


def test_a_property_label_names_a_trial_and_a_field_does_not() -> None:
    trials, _ = match_trials([], [Smoothed(0.1), Smoothed(0.2, "yes")])
    assert [trial.name for trial in trials] == ["000-label=0.1-no", "001-label=0.2-yes"]
    trials, _ = match_trials([], [Labelled(0.5), Labelled(0.25)])
    assert [trial.name for trial in trials] == ["000-rate_0.5", "001-rate_0.25"]


def test_several_numbers_are_joined_in_a_name() -> None:
    configs = [Inner(8, sizes) for sizes in [(64, 32), (128,), ()]]
    trials, _ = match_trials([], configs)
    assert [t.name for t in trials] == ["000-sizes=64-32", "001-sizes=128", "002-sizes="]


def test_names_of_trials_fit_into_file_systems() -> None:
    """They stand in names of files such as ``logs/<trial>.txt``."""

    @dataclass(frozen=True)
    class Named:
        model: str = ""

    configs = [Named(f"{letter * 250}{n}") for letter in "中😀x" for n in range(2)]
    names = [record.name for record in match_trials([], configs)[0]]
    assert len(set(names)) == 6 and max(len(name.encode()) for name in names) <= 210
    assert names[0].startswith("000-中中中") and names[4] == "004-" + "x" * 100
