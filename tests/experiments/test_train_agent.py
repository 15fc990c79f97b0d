"""train_agent.py as a user runs it."""

from __future__ import annotations

import os
import shlex
import signal
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scripts import ROOT, run_here, start_script
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from labs.rl.agents.policies import load_policy
from labs.rl.options import CHOICE, agent_configs, describe
from labs.runtime.cli import parse
from labs.runtime.commandline.choices import Given
from labs.runtime.errors import InputError

SMALL = (
    *("--env", "CartPole-v1", "--envs-per-worker", 4, "--segment-length", 64),
    *("--batch-size", 64, "--eval-episodes", 20, "--report-interval", 512),
)


@pytest.mark.slow
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
    words = shlex.split(out.partition("evaluate it: ")[2].splitlines()[0])
    assert words[0] == "python" and words[2] == "--checkpoint"
    assert Path(words[1]) == ROOT / "experiments" / "evaluate_agent.py"  # from any directory
    assert Path(words[3]).is_file()
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
def test_resuming_after_kill_9_equals_an_uninterrupted_run(
    private_ray: None, tmp_path: Path
) -> None:
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
        (("--algorithm", "dqn", "--env", "Pendulum-v1"), "dqn needs discrete actions"),
        (("--gamma", "1.5"), "--gamma 1.5 must be from 0 to 1"),
        (("--algorithm", "sac"), "--algorithm sac is unknown: use ppo, dqn, or module:name"),
        (("sac", "--gamma", "0.9"), "--algorithm sac is unknown"),
        (("dqn", "--clip-range", "0.9"), "--clip-range has no effect with --algorithm dqn"),
        (("--epochs=77", "--algorithm", "dqn"), "it is an option of ppo"),
        (("--n-step", "5"), "--n-step has no effect with --algorithm ppo: it is an option of dqn"),
        (("ppo", "--algorithm", "dqn"), "--algorithm takes one value"),
        (("--algorithm", "ppo", "dqn"), "--algorithm takes one value"),
        (("--action-std-end", "0.3"), "--action-std-end 0.3 has no effect: it is used only with"),
        (("--env", "CartPole-v1", "--action-std", "decay"), "CartPole-v1 are discrete"),
        (("dqn", "--target-rate", "0.01", "--target-interval", "3"), "--target-interval 3 has no"),
        (("--epochs", "4", "-3"), "--epochs -3 must be 1 or more"),
        (("--epochs", "4", "4"), "--epochs has the value 4 twice"),
        (("no_such_module:x",), "there is no module no_such_module"),
    ):
        assert run_here("train_agent", *arguments, "--run-root", tmp_path) == 2, arguments
        shown = capsys.readouterr()
        assert shown.out == ""
        assert message in shown.err and len(shown.err.strip().splitlines()) == 1, shown.err
    assert list(tmp_path.iterdir()) == []


def trials(*arguments: str) -> list[Any]:
    words = CHOICE.spelled_out(arguments)
    options = CHOICE.options(Given(words, {}))
    return agent_configs(parse(options, {}, words))


def test_the_defaults_are_those_of_the_algorithm_and_the_environment() -> None:
    (ppo,) = trials()
    assert (ppo.algorithm, ppo.frame_stack, ppo.batch_size) == ("ppo", 1, 1024)
    assert ppo.eval_interval == ppo.total_steps // 20 == 150_000
    assert trials("--env", "labs/NavigationGoal-v0")[0].frame_stack == 4
    assert trials("--env", "labs/NavigationGoal-v0", "--frame-stack", "2")[0].frame_stack == 2
    (dqn,) = trials("--algorithm", "dqn", "--gamma", "0.9", "--hidden-sizes", "32,16")
    assert (dqn.gamma, dqn.hidden_sizes, dqn.activation) == (0.9, (32, 16), "relu")
    assert [each.seed for each in trials("--seed", "7", "--seeds", "3")] == [7, 8, 9]
    assert trials("--total-steps", "4000")[0].eval_interval == 200


def test_a_sub_command_may_be_anywhere_but_as_a_value() -> None:
    for words in (
        ("dqn", "--n-step", "2"),
        ("--n-step", "2", "dqn"),
        ("--local-mode", "dqn", "--n-step=2"),
        ("--n-step", "2", "--algorithm", "dqn"),
        ("--run-name", "ppo", "dqn", "--n-step", "2", "--algorithm=dqn"),
    ):
        (config,) = trials(*words)
        assert (config.algorithm, config.n_step, config.segment_length) == ("dqn", 2, 8), words


def test_every_option_makes_a_grid() -> None:
    found = trials("--env", "CartPole-v1", "--epochs", "2", "4", "--clip-range", "0.1", "0.3")
    assert [(c.epochs, c.clip_range) for c in found] == [(2, 0.1), (2, 0.3), (4, 0.1), (4, 0.3)]
    found = trials("--hidden-sizes", "32", "64,64", "--anneal", "true", "false")
    both = [(anneal, sizes) for anneal in (True, False) for sizes in ((32,), (64, 64))]
    assert [(c.anneal, c.hidden_sizes) for c in found] == both
    (config,) = trials("--env-kwargs", "gravity=-5.0", "continuous=true", "--epochs", "2")
    assert config.env_kwargs == ("gravity=-5.0", "continuous=true")
    found = trials("--learning-rates", "1e-4..1e-2:log", "--samples", "3", "--seeds", "2")
    rates = [c.learning_rate for c in found]
    assert len(set(rates)) == 3 and rates[::2] == rates[1::2]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)


def test_in_a_grid_over_environments_each_has_its_own_tuned_values() -> None:
    one, other = trials("--env", "CartPole-v1", "labs/NavigationGoal-v0")
    assert (one.frame_stack, one.total_steps, one.eval_interval) == (1, 200_000, 10_000)
    assert (other.frame_stack, other.total_steps, other.eval_interval) == (4, 3_000_000, 150_000)
    one, other = trials("--env", "CartPole-v1", "labs/NavigationGoal-v0", "--frame-stack", "2")
    assert one.frame_stack == other.frame_stack == 2
    short, long = trials("--total-steps", "2000", "8000")
    assert (short.report_interval, long.report_interval) == (20, 80)


@pytest.mark.parametrize(
    ("option", "texts"),
    [
        ("--help", ("--total-steps 200000 ", "--target-interval 100,", "--hidden-sizes 128,64,")),
        (
            "--help-all",
            ("(default: 200000)", "to the target network. (default: 100)", "INT,INT,..."),
        ),
    ],
)
def test_help_shows_the_tuned_values(
    option: str, texts: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        trials("dqn", "--env", "CartPole-v1", option)
    shown = " ".join(capsys.readouterr().out.split())
    assert "--epochs" not in shown and "--learning-rate" in shown
    assert all(text in shown for text in texts)


def test_options_that_may_be_empty_need_no_value() -> None:
    (config,) = trials("ppo", "--env", "CartPole-v1", "--env-kwargs", "--wrapper")
    assert config.env_kwargs == config.wrapper == ()
    with pytest.raises(InputError, match="--seeds needs a value"):
        trials("ppo", "--seeds", "--wrapper")


def test_the_start_prints_every_value() -> None:
    text = describe(trials("dqn", "--env", "CartPole-v1", "--n-step", "1", "3", "--seeds", "2"))
    text = " ".join(text.split())
    assert text.startswith("dqn on CartPole-v1: seed 0 | 1, total_steps 200000, num_workers 0")
    assert "n_step 1 | 3" in text and "hidden_sizes 128,64," in text and "target_rate none" in text
