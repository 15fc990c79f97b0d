"""``--seeds``: one number is how many there are, several are the seeds themselves, in every sweep."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from scripts import load_script, run_here

from labs.runtime.cli import parse
from labs.runtime.directory.description import plain_config, restore


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("gradient_flow", ["--family", "cnn", "--depth", "3"]),
        ("dante_gpt", ["--learning-rate", "0.002"]),
        ("compare_agents", ["--envs", "CartPole-v1", "--agents", "labs-ppo"]),
    ],
)
def test_a_count_or_the_seeds_themselves(name: str, options: list[str]) -> None:
    script = load_script(name)

    def seeds(*given: str) -> list[int]:
        config = parse(script.Config, {}, [*options, *given])
        return [trial.seed for trial in config.trials()]

    assert seeds("--seeds", "3") == [0, 1, 2]
    assert seeds("--seeds", "11", "4", "--seed", "5") == [11, 4]
    assert seeds("--seeds", "2", "--seed", "5") == [5, 6]


def test_a_sweep_with_seeds_of_its_own_grows_by_further_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--families", "mlp", "--depths", "1", "--learning-rates", "0.01", "--width", "2"]
    quick += ["--epochs", "1", "--train-size", "80", "--local-mode", "--run-root", str(tmp_path)]
    assert run_here("depth_sweep", *quick, "--run-name", "a", "--seeds", 9, 4) == 0
    run = tmp_path / "depth_sweep" / "a"
    before = pd.read_csv(run / "results.csv")
    assert list(before["seed"]) == [9, 4]
    assert run_here("depth_sweep", "--resume", run, "--seeds", 4, 2, 9) == 0
    after = pd.read_csv(run / "results.csv")
    assert list(after["seed"]) == [9, 4, 2]
    pd.testing.assert_frame_equal(after[:2], before)
    assert run_here("depth_sweep", "--resume", run, "--seeds", 2) == 2
    assert "--seed is 0 here and 9 in trial" in capsys.readouterr().err


def test_a_run_of_one_count_is_read_as_such(tmp_path: Path) -> None:
    """Runs from when the option was a number alone hold a number."""
    script = load_script("gradient_flow")
    stored = json.loads(json.dumps(plain_config(script.Config(seeds=(4,)))))
    assert stored["seeds"] == [4]
    assert restore(script.Config, {**stored, "seeds": 6}).seeds == (6,)
