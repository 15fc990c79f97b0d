"""The depth sweep as a user runs it."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from scripts import load_script, run_script, start_script
from torch import nn

from labs.runtime.cli import launch
from labs.runtime.errors import InputError
from labs.vision.training import load_classifier

SMALL = ["--family", "mlp", "rescnn", "--depth", "1", "3", "--width", "4", "--seeds", "2"]
SMALL += ["--train-size", "200", "--batch-size", "50", "--epochs", "4", "--learning-rate", "0.01"]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("depth_sweep")


def call(script: ModuleType, *arguments: str | Path) -> int:
    presets = {name: script.Config(preset=name) for name in script.PLANS}
    with pytest.raises(SystemExit) as exit_:
        launch(script.main, script.Config, presets=presets, arguments=list(map(str, arguments)))
    return exit_.value.code


def numbers(run: Path) -> pd.DataFrame:
    """The results without what depends on the clock and the place."""
    table = pd.read_csv(run / "results.csv")
    return table.drop(columns=["seconds", "peak_gib", "time/samples_per_second", "checkpoint"])


@pytest.fixture(scope="module")
def finished(
    script: ModuleType, private_ray: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    root = tmp_path_factory.mktemp("runs")
    assert call(script, *SMALL, "--run-root", root, "--run-name", "whole") == 0
    return root / "depth_sweep" / "whole"


@pytest.mark.slow
def test_what_a_run_leaves_behind(finished: Path) -> None:
    table = pd.read_csv(finished / "results.csv", keep_default_na=False)
    assert list(table["family"]) == ["mlp"] * 4 + ["rescnn"] * 4
    assert list(table["depth"]) == [1, 1, 3, 3] * 2
    assert list(table["seed"]) == [0, 1] * 4
    assert (table["status"] == "done").all()
    for row in table.itertuples():
        classifier = load_classifier(row.checkpoint)
        assert classifier.family == row.family
        assert classifier.class_names == tuple("0123456789")
    summary = pd.read_csv(finished / "summary.csv")
    assert list(summary["depth"]) == [1, 3, 1, 3]
    assert list(summary["seeds"]) == [2] * 4
    # 64 inputs, 4 units, 10 classes; then 8 units' worth of two hidden layers of 4 and one of 2.
    assert summary["parameters"][0] == 64 * 4 + 4 + 4 * 10 + 10
    pair = table[(table["family"] == "rescnn") & (table["depth"] == 3)]["test/accuracy"]
    assert summary["test_accuracy"][3] == pytest.approx(pair.astype(float).mean())
    assert (summary["test_accuracy_low"] <= summary["test_accuracy"]).all()
    assert {p.name for p in (finished / "figures").iterdir()} == {
        f"{name}.{kind}" for name in ("accuracy_against_depth", "curves") for kind in ("png", "svg")
    }
    assert {p.name for p in (finished / "tensorboard").iterdir()} == {*table["name"], "summary"}


@pytest.mark.slow
def test_local_mode_gives_the_same_numbers(finished: Path, tmp_path: Path) -> None:
    status, out, err = run_script(
        "depth_sweep", *SMALL, "--local-mode", "--run-root", tmp_path, "--run-name", "local"
    )
    assert (status, err) == (0, "")
    assert "ResCNN on digits: from 1 to 3 convolutions" in out
    assert ":actor_name:" not in out
    pd.testing.assert_frame_equal(numbers(tmp_path / "depth_sweep" / "local"), numbers(finished))


@pytest.mark.slow
def test_a_killed_run_resumed_equals_an_uninterrupted_one(
    script: ModuleType, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "depth_sweep" / "killed"
    process = start_script(
        "depth_sweep", *SMALL, "--run-root", tmp_path, "--run-name", "killed",
        "--checkpoint-interval", "0", "--num-cpus", "2",
    )  # fmt: skip
    deadline = time.monotonic() + 300
    while not list(run.glob("tensorboard/*/state.json")):  # one trial is done, others are not
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    states = {p: p.stat().st_mtime_ns for p in run.glob("tensorboard/*/state.json")}
    assert 1 <= len(states) < 8
    assert call(script, "--resume", run) == 0
    assert f"{len(states)} of 8 trials are already finished" in capsys.readouterr().out
    assert all(p.stat().st_mtime_ns == when for p, when in states.items())
    pd.testing.assert_frame_equal(numbers(run), numbers(finished))


@pytest.mark.slow
def test_an_interrupt_leaves_a_run_to_resume(tmp_path: Path) -> None:
    run = tmp_path / "depth_sweep" / "stopped"
    process = start_script(
        "depth_sweep", *SMALL, "--epochs", "100000", "--local-mode",
        "--run-root", tmp_path, "--run-name", "stopped",
    )  # fmt: skip
    while not list(run.glob("tensorboard/*/reports.jsonl")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 130
    assert f"--resume {run}" in out


@pytest.mark.slow
def test_failing_trials_make_the_command_fail(
    script: ModuleType, private_ray: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A learning rate of 1e30 makes the loss overflow."""
    arguments = [*SMALL[:-1], "0.01", "1e30", "--families", "mlp", "--seeds", "1"]
    status = call(script, *arguments, "--run-root", tmp_path, "--run-name", "bad")
    assert status == 1
    out = capsys.readouterr().out
    assert "2 of 4 trials failed:" in out
    assert "in epoch" in out
    assert "at learning rate 1e+30" in out
    table = pd.read_csv(tmp_path / "depth_sweep" / "bad" / "results.csv")
    assert list(table["status"]) == ["done", "failed", "done", "failed"]
    summary = pd.read_csv(tmp_path / "depth_sweep" / "bad" / "summary.csv")
    assert list(summary["failed"]) == [0, 1, 0, 1]
    assert summary["test_accuracy"].isna().tolist() == [False, True, False, True]


def test_seeds_until_it_is_decided_which_model_is_best(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All verdicts of a look spend what that look may spend, not 5% each."""
    spent = []
    answers = script.depth.answers
    script.depth.answers = lambda table, images, alpha: (
        spent.append(alpha) or answers(table, images)
    )
    grid = ("--family", "mlp", "--depth", "1", "--width", "8", "--train-size", "200")
    rates = ("--learning-rate", "0.01", "1e-7", "--epochs", "2", "--until-decided", "5")
    try:
        arguments = (*grid, *rates, "--local-mode", "--run-root", tmp_path, "--run-name", "look")
        assert call(script, *arguments) == 0
    finally:
        script.depth.answers = answers
    assert "learning_rate=0.01 is the best (6 trials instead of 10: 4 saved)" in (
        capsys.readouterr().out
    )
    (look,) = json.loads((tmp_path / "depth_sweep" / "look" / "looks.json").read_text())
    assert spent == [look["alpha"]] and 0 < look["alpha"] < 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--families", "vgg"], "vgg"),
        (["--dataset", "imagenet"], "imagenet"),
        (["--preset", "huge"], "use quick or paper"),
        (["--depth", "0"], "--depth 0"),
        (["--depths", "-3"], "--depth -3"),
        (["--family", "rescnn", "--depth", "20"], "19 or 21"),
        (["--learning-rate", "0"], "--learning-rate 0"),
        (["--learning-rates", "nan"], "--learning-rate nan"),
        (["--learning-rate", "-1"], "--learning-rate -1"),
        (["--epochs", "0"], "--epochs 0"),
        (["--seeds", "0"], "--seeds 0"),
        (["--depths", "3", "3"], "same trial twice"),
        (["--batch-size", "5000"], "--batch-size 5000 is larger than the training set"),
        (["--gpus-per-trial", "8"], "needs 1 CPU and 8 GPU"),
        (["--resume", "."], "is not a run directory"),
    ],
)
def test_bad_input(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    root = [] if "--resume" in arguments else ["--run-root", str(tmp_path / "runs")]
    assert call(script, *arguments, *root) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert printed.out == ""
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_resume_with_other_options_is_refused(
    script: ModuleType, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(script, "--resume", finished, "--epochs", "7") == 2
    assert "--epochs is 7 here and 4 in the run" in capsys.readouterr().err


@pytest.mark.slow
def test_resuming_a_finished_run_only_reports(
    script: ModuleType, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = numbers(finished)
    assert call(script, "--resume", finished) == 0
    pd.testing.assert_frame_equal(numbers(finished), before)
    assert "ResCNN on digits" in capsys.readouterr().out


def test_without_batch_norm_no_network_has_any(script: ModuleType, tmp_path: Path) -> None:
    """In the trials and in the table's count of their weights."""
    options = ["--family", "cnn", "--depth", "3", "--width", "5", "--learning-rate", "1e-3"]
    options += ["--epochs", "1", "--seeds", "1", "--no-batch-norm", "--local-mode"]
    assert call(script, *options, "--run-root", tmp_path, "--run-name", "x") == 0
    run = tmp_path / "depth_sweep" / "x"
    (checkpoint,) = run.glob("checkpoints/*/best.pt")
    model = load_classifier(checkpoint).model
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    # Three convolutions of 5 channels with biases, and a dense layer for ten digits.
    weights = (9 * 1 * 5 + 5) + 2 * (9 * 5 * 5 + 5) + (5 * 10 + 10)
    assert list(pd.read_csv(run / "summary.csv")["parameters"]) == [weights]
    with pytest.raises(InputError, match="`batch_norm` has no effect on mlp"):
        script.Config(batch_norm=False).plans()
