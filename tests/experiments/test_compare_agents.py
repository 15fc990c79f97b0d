"""compare_agents.py as a user runs it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from scripts import run_here

from labs.rl.agents.policies import load_policy


@pytest.mark.slow
def test_all_four_learners_end_to_end(
    private_ray: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--steps", 1200, "--evaluations", 2, "--eval-episodes", 10, "--envs", "CartPole-v1")
    where = ("--run-root", tmp_path, "--run-name", "tiny")
    assert run_here("compare_agents", *options, "--seeds", 1, *where) == 0
    out = capsys.readouterr().out
    run = tmp_path / "compare_agents" / "tiny"
    runs = pd.read_csv(run / "runs.csv")
    assert runs["agent"].tolist() == ["labs-ppo", "rllib-ppo", "labs-dqn", "rllib-dqn"]
    # RLlib ends with the iteration, which is 600 steps of 256 at a time or a little more, twice
    assert runs["steps"].between(1200, 1600).all()
    assert runs["return"].between(8, 500).all()
    assert (runs["seconds"] > 0).all()
    assert "With 1 seed these are single runs, without intervals" in out
    assert not (run / "pairs.csv").exists()
    assert (run / "figures" / "learning.png").stat().st_size > 10_000
    table = pd.read_csv(run / "results.csv")
    assert table["name"].tolist()[1] == "001-rllib-ppo-CartPole-v1-seed=0"
    for name, algorithm in zip(table["name"], table["algorithm"], strict=True):
        saved = load_policy(run / "checkpoints" / name / "last.pt")
        assert (saved.algorithm, saved.env_id) == (algorithm, "CartPole-v1")
    # Resumed when all is done, it comes to the same at once.
    assert run_here("compare_agents", "--resume", run) == 0
    assert "at a time" not in capsys.readouterr().out
    pd.testing.assert_frame_equal(pd.read_csv(run / "runs.csv"), runs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--agents", "sb3-ppo"), "--agents sb3-ppo is unknown: use labs-ppo, rllib-ppo"),
        (("--envs", "CartPol-v1"), "--envs CartPol-v1 is unknown; did you mean CartPole-v1"),
        (("--envs", "Pendulum-v1"), "the comparison with RLlib needs observations of a Box"),
        (
            ("--envs", "Pendulum-v1", "--agents", "labs-dqn"),
            "`algorithm` dqn needs discrete actions",
        ),
        (("--seeds", 0), "--seeds 0 is too small: use 1 or more"),
        (("--learning-rate", 0), "--learning-rate 0.0"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple, message: str
) -> None:
    assert run_here("compare_agents", *options, "--run-root", tmp_path) == 2
    shown = capsys.readouterr()
    assert message in shown.err and len(shown.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
