"""train_agent.py as a user runs it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pandas as pd
import pytest
from scripts import load_script, run_here, start_script
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from labs.rl.agents.policies import load_policy
from labs.runtime.cli import parse

SMALL = (
    *("--env", "CartPole-v1", "--envs-per-worker", 4, "--segment-length", 64),
    *("--batch-size", 64, "--eval-episodes", 20, "--report-interval", 512),
)


def test_a_grid_leaves_a_table_curves_and_the_best_agents(
    private_ray: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--total-steps", 4096, "--eval-interval", 2048, "--learning-rates", 1e-3, 1e-9)
    where = ("--run-root", tmp_path, "--run-name", "grid")
    assert run_here("train_agent", *SMALL, *options, *where) == 0
    out = capsys.readouterr().out
    run = tmp_path / "train_agent" / "grid"
    table = pd.read_csv(run / "results.csv")
    assert table["learning_rate"].tolist() == [1e-3, 1e-9]
    assert (table["status"] == "done").all()
    # A step of 1e-9 learns nothing: a policy close to uniform holds the pole about 20 steps, and
    # the better agent is the one that is named.
    assert table["eval/return_mean"].iloc[0] > 60 > table["rollout/return_mean"].iloc[1]
    name = table["name"].iloc[0]
    assert f"best: {name}" in out
    assert load_policy(run / "checkpoints" / name / "best.pt").env_id == "CartPole-v1"
    assert (run / "figures" / "learning.png").stat().st_size > 1000
    events = EventAccumulator(str(run / "tensorboard" / name))
    events.Reload()
    points = events.Scalars("train/entropy")
    assert [point.step for point in points] == list(range(512, 4097, 512))
    assert [point.step for point in events.Scalars("eval/return_mean")] == [2048, 4096]
    tags = set(events.Tags()["scalars"])
    parts = ("environment", "inference", "collecting", "learning")
    assert {f"time/{part}_seconds" for part in parts} <= tags
    names = ("entropy", "kl", "clip_fraction", "explained_variance", "policy_loss", "value_loss")
    assert {f"train/{name}" for name in names} <= tags


@pytest.mark.slow
def test_resuming_after_kill_9_equals_not_having_stopped(private_ray: None, tmp_path: Path) -> None:
    options = (*SMALL, "--total-steps", 6144, "--eval-interval", 1024, "--run-root", tmp_path)
    assert run_here("train_agent", *options, "--run-name", "whole") == 0
    process = start_script(
        "train_agent",
        *options,
        *("--run-name", "killed", "--num-workers", 1, "--num-cpus", 2, "--checkpoint-interval", 0),
    )
    killed = tmp_path / "train_agent" / "killed"
    deadline = time.monotonic() + 400
    while not list(killed.glob("checkpoints/*/last.pt")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no checkpoint appears"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (killed / "results.csv").exists()
    assert run_here("train_agent", "--resume", killed) == 0
    whole = pd.read_csv(tmp_path / "train_agent" / "whole" / "results.csv")
    table = pd.read_csv(killed / "results.csv")
    same = [c for c in whole if c.split("/")[0] in ("train", "rollout", "eval")] + ["step"]
    pd.testing.assert_frame_equal(table[same], whole[same])


def test_bad_input_is_one_sentence_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, message in (
        (("--env", "CartPol-v1"), "did you mean CartPole-v1"),
        (("--algorithm", "dqn", "--env", "Pendulum-v1"), "dqn chooses among discrete actions"),
        (("--gamma", "1.5"), "--gamma 1.5 is out of range"),
    ):
        assert run_here("train_agent", *arguments, "--run-root", tmp_path) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert message in shown.err and len(shown.err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_defaults_are_those_of_the_algorithm_and_the_environment() -> None:
    script = load_script("train_agent")

    def trial(*arguments: str) -> object:
        return parse(script.Config, {}, arguments).trials()[0]

    assert trial().frame_stack == 1 and trial().batch_size == 1024
    assert trial("--env", "labs/NavigationGoal-v0").frame_stack == 4
    assert trial("--env", "labs/NavigationGoal-v0", "--frame-stack", "2").frame_stack == 2
    dqn = trial("--algorithm", "dqn", "--gamma", "0.9", "--hidden-sizes", "32", "16")
    assert (dqn.gamma, dqn.hidden_sizes, dqn.activation) == (0.9, (32, 16), "relu")
    seeds = parse(script.Config, {}, ["--seed", "2", "--seeds", "3"]).trials()
    assert [each.seed for each in seeds] == [2000, 2001, 2002]
