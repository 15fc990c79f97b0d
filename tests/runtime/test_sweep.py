"""The runner: order, reproducibility, failures, retries, checkpoints, resuming."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from procedures import RiseConfig, ShortConfig, WalkConfig, rise, short, walk

from labs.runtime.checkpoints import load_checkpoint
from labs.runtime.directory.runs import open_run
from labs.runtime.errors import InputError
from labs.runtime.options import RuntimeOptions
from labs.runtime.reports import Objective, Report
from labs.runtime.results import GridResult
from labs.runtime.sweep import run_grid

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("private_ray")]

OFFSET = np.array([1.0, 2.0])


@dataclass(frozen=True)
class Config:
    trials: int = 1


def sweep(tmp_path: Path, configs: list[WalkConfig], **options: object) -> GridResult:
    runtime = RuntimeOptions(run_root=str(tmp_path), **options)
    with open_run("walk", Config(len(configs)), runtime) as run:
        return run_grid(
            walk,
            configs,
            run=run,
            objective=Objective("walk/position", last_step=8),
            shared={"offset": OFFSET},
        )


def walked(config: WalkConfig) -> list[float]:
    """The walk's positions, computed apart."""
    generator = torch.Generator().manual_seed(config.seed)
    positions, position = [], 0.0
    for _ in range(config.steps):
        position += float(torch.randn((), generator=generator, dtype=torch.float64))
        positions.append(position + float(OFFSET.sum()))
    return positions


@pytest.mark.slow
def test_rows_come_in_grid_order_with_the_numbers_of_a_plain_loop(tmp_path: Path) -> None:
    # The first trials take longest, so they end last.
    configs = [WalkConfig(seed=seed, pause=0.03 * (5 - seed)) for seed in range(6)]
    result = sweep(tmp_path, configs)
    assert list(result.table["seed"]) == [0, 1, 2, 3, 4, 5]
    assert list(result.table["status"]) == ["done"] * 6
    assert result.exit_status == 0
    for index, config in enumerate(configs):
        expected = [r.metrics["walk/position"] for r in walk(config, offset=OFFSET)]
        assert expected == pytest.approx(walked(config))
        history = result.history[result.history["trial"] == index]
        assert list(history["step"]) == [1, 2, 3, 4, 5]
        assert list(history["walk/position"]) == expected
        assert result.table["walk/position"][index] == max(expected)
        assert result.table["step"][index] == 1 + int(np.argmax(expected))


def test_two_trials_run_at_once(tmp_path: Path) -> None:
    (tmp_path / "meet").mkdir()
    configs = [WalkConfig(seed=seed, meet=str(tmp_path / "meet")) for seed in range(2)]
    result = sweep(tmp_path, configs)
    assert list(result.table["status"]) == ["done", "done"]
    assert result.history["time/process"].nunique() == 2


@pytest.mark.slow
def test_processes_are_reused(tmp_path: Path) -> None:
    result = sweep(tmp_path, [WalkConfig(seed=seed, pause=0.02) for seed in range(8)])
    assert result.history["time/process"].nunique() <= 3


@pytest.mark.slow
def test_all_slots_run_trials_that_are_shorter_than_the_start_of_a_process(tmp_path: Path) -> None:
    configs = [ShortConfig(seed) for seed in range(400)]
    with open_run("short", Config(400), RuntimeOptions(run_root=str(tmp_path))) as run:
        result = run_grid(short, configs, run=run, objective=Objective("walk/position"))
    trials = result.history["time/process"].value_counts()
    assert len(result.history) == 400 and trials.iloc[1] >= 20 and len(trials) == 2


def test_best_and_last_checkpoints(tmp_path: Path) -> None:
    config = WalkConfig(seed=3, steps=8)
    result = sweep(tmp_path, [config])
    positions = walked(config)
    path = Path(result.checkpoint(0))
    best, last = load_checkpoint(path), load_checkpoint(path.with_name("last.pt"), "test.walk")
    assert path.name == "best.pt"
    assert best["step"] == 1 + int(np.argmax(positions))
    assert float(best["position"]) == pytest.approx(max(positions) - OFFSET.sum())
    assert last["step"] == 8
    assert sorted(p.name for p in path.parent.iterdir()) == [
        *("attempt.json", "best.pt", "last.pt")
    ]


@pytest.mark.slow
def test_failing_trials_are_named_and_the_others_continue(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error, a NaN, and a process that dies without a word (SIGKILL, as for lack of memory)."""
    failures = {1: "raise", 2: "nan", 4: "kill"}
    configs = [
        WalkConfig(seed=s, fail_at=3 if s in failures else None, fail=failures.get(s, "raise"))
        for s in range(6)
    ]
    result = sweep(tmp_path, configs)
    assert list(result.table["status"]) == ["done", "failed", "failed", "done", "failed", "done"]
    assert result.table["error"][1] == "RuntimeError: planted at step 3"
    assert "'walk/position' is nan at step 3" in result.table["error"][2]
    assert "died" in result.table["error"][4]
    assert result.exit_status == 1
    assert list(result.failed["name"]) == list(result.table["name"][list(failures)])
    # What came before the failure is not lost.
    for trial in (1, 2):
        assert list(result.history.loc[result.history["trial"] == trial, "step"]) == [1, 2]
    assert "planted at step 3" in capsys.readouterr().out
    (run,) = (tmp_path / "walk").iterdir()
    assert (
        "planted" in (run / "tensorboard" / result.failed["name"].iloc[0] / "error.txt").read_text()
    )


@pytest.mark.slow
def test_a_retry_resumes_from_the_last_checkpoint(tmp_path: Path) -> None:
    """Also when the process dies without a word."""
    configs = [
        WalkConfig(seed=seed, steps=6, fail_at=4, fail=how, once=str(tmp_path / how))
        for seed, how in ((5, "raise"), (6, "kill"))
    ]
    result = sweep(tmp_path, configs, max_failures=1, checkpoint_interval=0)
    assert list(result.table["status"]) == ["done", "done"]
    for index, config in enumerate(configs):
        history = result.history[result.history["trial"] == index]
        assert list(history["step"]) == [1, 2, 3, 4, 5, 6]
        assert list(history["walk/position"]) == pytest.approx(walked(config))
    # Of the second trial steps 1 to 3 came from the process that died.
    assert history["time/process"].nunique() == 2


@pytest.mark.slow
def test_an_experiment_that_a_worker_cannot_import_fails_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a cluster whose machines lack a module that this one has."""
    (tmp_path / "only_here.py").write_text("def train(config, resume=None):\n    yield\n")
    monkeypatch.syspath_prepend(tmp_path)
    train = importlib.import_module("only_here").train
    runtime = RuntimeOptions(run_root=str(tmp_path / "runs"), max_failures=1)
    with open_run("walk", Config(), runtime) as run:
        result = run_grid(train, [WalkConfig()], run=run)
    assert list(result.table["status"]) == ["failed"]
    assert result.table["error"][0] == "ModuleNotFoundError: No module named 'only_here'"
    assert result.exit_status == 1
    assert "retry   000-trial  ModuleNotFoundError" in capsys.readouterr().out


@pytest.mark.slow
def test_resume_runs_only_what_is_unfinished_and_equals_an_uninterrupted_run(
    tmp_path: Path,
) -> None:
    once = str(tmp_path / "once")
    configs = [WalkConfig(seed=s, fail_at=3 if s == 1 else None, once=once) for s in range(3)]
    first = sweep(tmp_path, configs, checkpoint_interval=0)
    assert list(first.table["status"]) == ["done", "failed", "done"]
    (run,) = (tmp_path / "walk").iterdir()
    written = {p: p.stat().st_mtime_ns for p in run.glob("tensorboard/*/reports.jsonl")}
    second = sweep(tmp_path, configs, resume=str(run), checkpoint_interval=0)
    assert list(second.table["status"]) == ["done"] * 3
    for index, config in enumerate(configs):
        history = second.history[second.history["trial"] == index]
        assert list(history["walk/position"]) == pytest.approx(walked(config))
    touched = [p.parent.name for p, when in written.items() if p.stat().st_mtime_ns != when]
    assert touched == [first.failed["name"].iloc[0]]


@pytest.mark.slow
def test_a_trial_whose_end_the_driver_never_saw_gives_its_metrics_again(tmp_path: Path) -> None:
    """The driver died after the trial's last checkpoint and before the trial's last reports."""
    config = WalkConfig(seed=2)
    first = sweep(tmp_path, [config])
    (run,) = (tmp_path / "walk").iterdir()
    directory = run / "tensorboard" / first.table["name"][0]
    (directory / "state.json").unlink()
    (directory / "reports.jsonl").write_text('{"step": 1, "seco')  # cut short in mid-write
    second = sweep(tmp_path, [config], resume=str(run))
    assert list(second.history["walk/position"]) == pytest.approx(walked(config))
    assert list(second.table["status"]) == ["done"]


def rising(tmp_path: Path, configs: list[RiseConfig], **options: object) -> GridResult:
    runtime = RuntimeOptions(run_root=str(tmp_path), **options)
    with open_run("rise", Config(), runtime) as run:
        objective = Objective("val/score", last_step="steps", within=("family",))
        return run_grid(rise, configs, run=run, objective=objective)


def last_steps(result: GridResult) -> dict[int, int]:
    return result.history.groupby("trial")["step"].max().to_dict()


def test_asha_stops_the_worse_configs_of_each_family_with_all_their_seeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = [("a", 3.0), ("a", 1.0), ("a", 2.0), ("b", 0.5), ("b", 0.1)]
    configs = [RiseConfig(slope, family, seed) for family, slope in grid for seed in range(2)]
    result = rising(tmp_path, configs, scheduler="asha")
    statuses = result.table.groupby(["family", "slope"])["status"].unique().map(list).to_dict()
    assert statuses == {
        ("a", 3.0): ["done"],  # the best of its family
        ("a", 1.0): ["stopped"],
        ("a", 2.0): ["stopped"],
        ("b", 0.5): ["done"],  # worse than all of the other family
        ("b", 0.1): ["stopped"],
    }
    assert result.exit_status == 0
    reached = last_steps(result)
    for row in result.table.itertuples():
        if row.status == "done":
            assert reached[row.trial] == 8
        else:
            assert reached.get(row.trial, 0) < 8
    assert list(result.finished["slope"]) == [3.0, 3.0, 0.5, 0.5]
    # Tune has a reporter of its own, which names a trial that is stopped before its first report.
    assert min(reached.get(trial, 0) for trial in range(len(configs))) == 0
    printed = capsys.readouterr()
    assert "Trial" not in printed.out + printed.err


@pytest.mark.slow
def test_asha_of_a_resumed_run_knows_the_rungs_of_the_first_session(tmp_path: Path) -> None:
    first = rising(tmp_path, [RiseConfig(2.0)], scheduler="asha")
    (run,) = (tmp_path / "rise").iterdir()
    grown = [RiseConfig(1.0), RiseConfig(2.0), RiseConfig(3.0)]
    second = rising(tmp_path, grown, scheduler="asha", resume=str(run))
    assert list(first.table["status"]) == ["done"]
    by_slope = second.table.set_index("slope")["status"].to_dict()
    assert by_slope == {2.0: "done", 1.0: "stopped", 3.0: "done"}


@pytest.mark.slow
def test_asha_survives_a_first_report_that_fails_or_lacks_the_metric(tmp_path: Path) -> None:
    configs = [RiseConfig(3.0, first="late"), RiseConfig(9.0, first="fail"), RiseConfig(1.0)]
    result = rising(tmp_path, configs, scheduler="asha")
    assert list(result.table["status"]) == ["done", "failed", "stopped"]
    assert "planted" in result.table["error"][1]


def test_asha_without_a_last_step_is_refused(tmp_path: Path) -> None:
    runtime = RuntimeOptions(run_root=str(tmp_path), scheduler="asha")
    with (
        open_run("rise", Config(), runtime) as run,
        pytest.raises(InputError, match="last_step="),
    ):
        run_grid(rise, [RiseConfig()], run=run, objective=Objective("val/score"))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_trial_that_hangs_is_ended_and_tried_again(tmp_path: Path) -> None:
    configs = [
        WalkConfig(seed=1, fail_at=3, fail="hang", once=str(tmp_path / "once")),
        WalkConfig(seed=2, fail_at=2, fail="hang"),
    ]
    began = time.monotonic()
    result = sweep(tmp_path, configs, trial_timeout=3, max_failures=1, checkpoint_interval=0)
    assert time.monotonic() - began < 120
    assert list(result.table["status"]) == ["done", "failed"]
    assert list(result.history.loc[result.history["trial"] == 0, "step"]) == [1, 2, 3, 4, 5]
    assert result.table["error"][1].startswith("no report for 3 s (--trial-timeout)")


def test_max_concurrent(tmp_path: Path) -> None:
    configs = [WalkConfig(seed=s, pause=0.1) for s in range(3)]
    result = sweep(tmp_path, configs, max_concurrent=1)
    assert result.history["time/process"].nunique() == 1


def test_a_request_that_never_fits_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"needs 3 CPU.*2 CPU and 0 GPU"):
        sweep(tmp_path, [WalkConfig()], cpus_per_trial=3)
    with pytest.raises(InputError, match="1 CPU and 0.5 GPU"):
        sweep(tmp_path, [WalkConfig()], gpus_per_trial=0.5)
    assert list(tmp_path.iterdir()) == []


def test_run_directory_describes_the_run(tmp_path: Path) -> None:
    result = sweep(tmp_path, [WalkConfig(seed=4)], run_name="mine")
    run = tmp_path / "walk" / "mine"
    described = json.loads((run / "config.json").read_text())
    assert described["config"] == {"trials": 1}
    assert described["versions"]["torch"] == importlib.metadata.version("torch")
    assert len(described["git"]["labs"].split("-")[0]) == 40
    assert [trial["name"] for trial in described["trials"]] == ["000-trial"]
    assert described["trials"][0]["config"]["seed"] == 4
    table = (run / "results.csv").read_text().splitlines()
    assert len(table) == 2
    assert table[0].split(",") == list(result.table.columns)
    with pytest.raises(InputError, match="mine already exists"):
        sweep(tmp_path, [WalkConfig(seed=4)], run_name="mine")


def test_a_report_refuses_what_is_not_finite() -> None:
    with pytest.raises(FloatingPointError, match=r"'train/loss' is inf at step 7"):
        Report(7, {"train/loss": float("inf")})
