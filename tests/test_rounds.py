"""Seeds in rounds: which configs get them, when it ends, and what a resumed search keeps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labs.analysis.load import load_run
from labs.experiment import main
from labs.runtime.reports import Checkpoint, Report

pytestmark = pytest.mark.usefixtures("without_ray")


@dataclass(frozen=True)
class Trial:
    height: float = 1.0
    depth: int | None = None
    seed: int = 0


def noisy(config: Trial, resume: Checkpoint | None = None) -> Iterator[Report]:
    """One draw, of standard deviation 1 around ``height``."""
    rng = np.random.default_rng([config.seed, round(100 * config.height), config.depth or 0])
    yield Report(1, {"val/score": config.height + float(rng.normal())})


def call(root: Path, *arguments: Any, train: Any = noisy, config_type: type = Trial) -> int:
    given = ["--local-mode", "--run-root", str(root), *map(str, arguments)]
    with pytest.raises(SystemExit) as end:
        main(train, config_type, metric="val/score", arguments=given)
    return int(end.value.code or 0)


def only_run(root: Path) -> Path:
    (found,) = root.glob("*/*/config.json")
    return found.parent


def seeds(path: Path) -> dict[float, list[int]]:
    table = load_run(path).table
    return {height: sorted(rows["seed"]) for height, rows in table.groupby("height")}


@pytest.mark.slow
def test_only_configs_in_question_get_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path, "--height", 0, 50, 52, "--until-decided", 12) == 0
    path = only_run(tmp_path)
    found = seeds(path)
    assert len(found[0.0]) < len(found[50.0]) <= 12
    assert all(numbers == list(range(len(numbers))) for numbers in found.values())
    looks = json.loads((path / "looks.json").read_text())
    assert sum(look["alpha"] for look in looks) <= 0.05 + 1e-12
    assert [max(look["seeds"].values()) for look in looks] == [3, 5, 8, 12][: len(looks)]
    trials = sum(map(len, found.values()))
    said = capsys.readouterr().out
    assert f"decided at n = {len(found[52.0])}: height=52 is the best" in said
    assert f"{trials} trials instead of 36: {36 - trials} saved" in said


@pytest.mark.slow
def test_without_a_difference_it_ends_at_the_maximum(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(tmp_path, "--height", 1.0, 1.01, "--until-decided", 6) == 0
    assert {len(numbers) for numbers in seeds(only_run(tmp_path)).values()} == {6}
    said = capsys.readouterr().out
    assert "not decided with all seeds (12 trials instead of 12: 0 saved)" in said


@pytest.mark.slow
def test_a_resumed_search_keeps_its_seeds_and_continues(tmp_path: Path) -> None:
    call(tmp_path, "--height", 1.0, 1.01, "--depth", "none", 4, "--until-decided", 5)
    path = only_run(tmp_path)
    before = load_run(path).table
    assert call(tmp_path, "--resume", path, "--until-decided", 8) == 0
    after = load_run(path).table
    assert len(before) == 20 and 20 < len(after) <= 32
    names = ["name", "height", "seed", "val/score"]
    assert after[names].head(20).equals(before[names])
    assert call(tmp_path, "--resume", path, "--height", 1.0, 1.01, 90) == 0  # it grows
    assert len(seeds(path)[90.0]) >= 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--height", 1, "--until-decided"], "needs several configs to decide between"),
        (["--height", 1, 2, "--until-decided", 2], "--until-decided 2 is too small: use 3"),
        (["--height", 1, 2, "--seeds", 7, "--until-decided", 5], "use 7 or more"),
        (["--height", 1, 2, "--until-decided", 5, 6], "takes one number"),
        (["--height", 1, 2, "--until-decided", "--scheduler", "asha"], "use only one"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[Any], message: str
) -> None:
    assert call(tmp_path, *arguments) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
