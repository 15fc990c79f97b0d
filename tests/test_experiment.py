"""An experiment of one's own: the command line and the sweep that a dataclass gives."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from labs.experiment import main, sweep
from labs.runtime.checkpoints import load_checkpoint
from labs.runtime.errors import InputError
from labs.runtime.grid import grid
from labs.runtime.options import RuntimeOptions
from labs.runtime.procedures import with_procedure
from labs.runtime.reports import Checkpoint, Report

pytestmark = pytest.mark.usefixtures("private_ray")


@dataclass(frozen=True)
class Trial:
    slope: float = 1.0
    """How fast the score rises."""
    steps: int = 4
    seed: int = 0


def climb(
    config: Trial, resume: Checkpoint | None = None, *, offset: float = 0.0
) -> Iterator[Report]:
    for step in range(1, config.steps + 1):
        score = config.slope * step + config.seed / 100 + offset
        yield Report(step, {"val/score": score, "train/loss": -score})


def sink(config: Trial, resume: Checkpoint | None = None, **shared: Any) -> Iterator[Report]:
    for report in climb(config, resume, **shared):
        yield Report(report.step, {tag: -value for tag, value in report.metrics.items()})


def call(*arguments: str, train: Any = climb, config_type: type = Trial, **more: Any) -> int:
    with pytest.raises(SystemExit) as end:
        main(
            train,
            config_type,
            **{"metric": "val/score", **more},
            arguments=list(arguments),
        )
    return int(end.value.code or 0)


def run_directory(root: Path) -> Path:
    (found,) = root.glob("*/*/config.json")
    return found.parent


@pytest.mark.slow
def test_a_grid_over_seeds_from_the_command_line(tmp_path: Path) -> None:
    status = call("--slope", "2", "-1", "--seeds", "3", "--run-root", str(tmp_path))
    assert status == 0
    run = run_directory(tmp_path)
    table = pd.read_csv(run / "results.csv")
    assert list(zip(table["slope"], table["seed"], strict=True)) == [
        (slope, seed) for slope in (2.0, -1.0) for seed in range(3)
    ]
    # the best step of a rising score is the last, of a falling one the first
    expected = [8 + s / 100 for s in range(3)] + [-1 + s / 100 for s in range(3)]
    assert table["val/score"].to_numpy() == pytest.approx(expected)
    assert (run / "figures" / "curves.png").exists()
    assert json.loads((run / "config.json").read_text())["config"]["slope"] == ["2", "-1"]


@pytest.mark.slow
def test_from_python_with_data_and_several_procedures(tmp_path: Path) -> None:
    calls = []

    def data() -> dict[str, Any]:
        calls.append(1)
        return {"offset": 100.0}

    result = sweep(
        {"up": climb, "down": sink},
        grid(Trial, slope=[1.0, 3.0], seed=range(2)),
        metric="val/score",
        data=data,
        options=RuntimeOptions(run_root=str(tmp_path)),
    )
    assert calls == [1]
    table = result.table
    assert list(table["procedure"]) == ["up"] * 4 + ["down"] * 4
    up = table[table["procedure"] == "up"]["val/score"].to_numpy()
    assert up == pytest.approx([104.0, 104.01, 112.0, 112.01])
    down = table[table["procedure"] == "down"]["val/score"].to_numpy()
    assert down == pytest.approx([-101.0, -101.01, -103.0, -103.01])
    best = result.best()
    assert best is not None and (best["slope"], best["seed"]) == (3.0, 1)
    assert np.isfinite(result.history["val/score"]).all()


@pytest.mark.slow
def test_one_of_several_procedures_is_chosen(tmp_path: Path) -> None:
    several = {"up": climb, "down": sink}
    assert call("--procedure", "down", "--run-root", str(tmp_path), train=several) == 0
    table = pd.read_csv(run_directory(tmp_path) / "results.csv")
    assert list(table["procedure"]) == ["down"] and table["val/score"][0] == -1


def kept(config: Trial, resume: Checkpoint | None = None) -> Iterator[Report]:
    yield Report(1, {"val/score": config.slope}, lambda: {"slope": config.slope})


def no_report(config: Trial, resume: Checkpoint | None = None) -> Iterator[Any]:
    yield {"val/score": config.slope}


def test_each_of_several_procedures_has_its_own_name(tmp_path: Path) -> None:
    several = {"a": kept, "b": no_report}
    options = ("--procedure", "b", "a", "--local-mode", "--run-root", str(tmp_path))
    assert call(*options, train=several) == 1
    run = run_directory(tmp_path)
    table = pd.read_csv(run / "results.csv").set_index("procedure")
    assert table["error"]["b"].startswith(f"TypeError: {__name__}.no_report yielded dict: ")
    state = load_checkpoint(run / "checkpoints" / table["name"]["a"] / "best.pt")
    assert (state["kind"], state["slope"]) == (f"{__name__}.kept", 1.0)


@dataclass
class Thawed:
    a: int = 1


def no_config() -> Iterator[Report]:
    yield Report(1, {"a/b": 1.0})


def no_generator(config: Trial, resume: Checkpoint | None = None) -> None:
    if config.steps > 1:
        return
    climb(config)


async def asynchronous(config: Trial, resume: Checkpoint | None = None) -> Any:
    yield Report(1, {"val/score": 1.0})


def with_a_lock() -> Any:
    lock = threading.Lock()

    def locked(config: Trial, resume: Checkpoint | None = None) -> Iterator[Report]:
        with lock:
            yield Report(1, {"val/score": 1.0})

    return locked


@dataclass(frozen=True)
class Listed:
    sizes: list[int] = field(default_factory=list)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"train": no_generator}, "error: no_generator is not a generator: it must yield"),
        ({"train": functools.partial(no_generator)}, " is not a generator: it must yield"),
        ({"train": asynchronous}, "error: asynchronous is not a generator: it must yield"),
        (
            {"train": with_a_lock()},
            "error: the training procedure cannot be sent to other processes",
        ),
        (
            {"data": lambda: {"offset": threading.Lock()}},
            "error: the data offset cannot be sent to",
        ),
        (
            {"config_type": Listed},
            "error: Listed.sizes has the type list[int], which no option can",
        ),
        ({"config_type": Thawed}, "error: Thawed can be changed"),
        ({"mode": "upwards"}, "error: `mode` 'upwards' is not valid"),
        ({"train": {}}, "error: there is no training procedure"),
        ({"train": no_config}, "error: no_config must take (config, resume=None)"),
        ({"train": 3}, "error: 3 is not a training procedure"),
        ({"data": lambda: {"other": 1}}, "error: climb must take (config, resume=None, other)"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(
    more: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--run-root", str(tmp_path), **more) == 2
    shown = capsys.readouterr().err
    assert message in shown and shown.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_bad_options_are_spelled_as_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--slope", "0.1,0.2", "--run-root", str(tmp_path)) == 2
    assert "error: --slope 0.1,0.2: put spaces" in capsys.readouterr().err


def test_an_empty_grid_is_refused() -> None:
    with pytest.raises(InputError, match="the grid is empty"):
        sweep(climb, [], metric="val/score")
    with pytest.raises(InputError, match="has a field procedure"):
        with_procedure(with_procedure(Trial, ["one", "two"]), ["one", "two"])


SLOPE, STEPS, SEED = ("slope", float, 1.0), ("steps", int, 4), ("seed", int, 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ([SLOPE, ("steps", float, 4.0), SEED], None),  # 4 and 4.0 are one number
        ([("slope", str, "1.0"), STEPS, SEED], "--slope is '2.5' here and 2.5 in trial 000"),
        ([("slope", int, 1), STEPS, SEED], "--slope 2.5 is not valid: it takes a whole number"),
        ([SLOPE, ("steps", bool, True), SEED], "--steps 4 is not valid: it takes"),
        ([SLOPE, ("steps", tuple[int, ...], (4,)), SEED], "--steps is [4] here and 4 in trial"),
        ([SLOPE, SEED], "`steps` is missing here and 4 in trial 000"),
        ([SLOPE, STEPS], "`seed` is missing here and 0 in trial 000"),
        ([SLOPE, STEPS, ("width", int, 3), SEED], "--width is 3 here and missing in trial 000"),
        ([("rate", float, 1.0), STEPS, SEED], "--rate is 1.0 here and missing in trial 000"),
    ],
)
def test_a_run_is_resumed_with_the_fields_that_it_had(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fields: list[tuple[str, type, Any]],
    message: str | None,
) -> None:
    """A field of the config has another type since, or has gone, or is new."""
    assert call("--slope", "2.5", "--local-mode", "--run-root", str(tmp_path)) == 0
    before = (run_directory(tmp_path) / "results.csv").read_bytes()
    described = [(name, kind, field(default=default)) for name, kind, default in fields]
    changed = make_dataclass("Trial", described, frozen=True)
    capsys.readouterr()
    status = call("--resume", str(run_directory(tmp_path)), config_type=changed)
    said = capsys.readouterr().err
    assert (status, said.count("\n")) == ((2, 1) if message else (0, 0))
    assert not message or said.startswith(f"error: {message}")
    if message:
        assert (run_directory(tmp_path) / "results.csv").read_bytes() == before


def test_a_function_that_returns_a_generator_is_a_procedure(tmp_path: Path) -> None:
    def handed_on(config: Trial, resume: Checkpoint | None = None) -> Iterator[Report]:
        return climb(config, resume)

    options = RuntimeOptions(run_root=str(tmp_path), local_mode=True)
    result = sweep(handed_on, [Trial()], metric="val/score", options=options)
    assert list(result.table["status"]) == ["done"]


def test_a_config_that_can_be_changed_is_refused(tmp_path: Path) -> None:
    options = RuntimeOptions(run_root=str(tmp_path))
    with pytest.raises(InputError, match=r"`slope` is \[1, 2\], which can be changed"):
        sweep(climb, [Trial(slope=[1, 2])], metric="val/score", options=options)
    assert not list(tmp_path.iterdir())


def planned(capsys: pytest.CaptureFixture[str], root: Path, *arguments: str) -> str:
    more: dict[str, Any] = {"last_step": "steps"}
    assert call(*arguments, "--plan", "--run-root", str(root), **more) == 0
    return capsys.readouterr().out


@pytest.mark.slow
def test_a_plan_says_trials_time_and_price_and_starts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["climbing.py"])
    grid_ = ("--slope", "1", "2", "--steps", "4", "8", "--seeds", "3", "--max-concurrent", "1")
    shown = planned(capsys, tmp_path, *grid_)
    assert "12 trials, of 4 configs\n" in shown
    assert f"not known, since {tmp_path / 'climbing'} has no finished trial" in shown
    assert not list(tmp_path.iterdir())

    assert call("--slope", "1", "3", "--run-root", str(tmp_path), "--run-name", "measured") == 0
    run = tmp_path / "climbing" / "measured"
    for slope, seconds in ((1, 2.0), (3, 6.0)):  # a history of our own: 0.5 and 1.5 s a step
        (directory,) = (run / "tensorboard").glob(f"00?-slope={slope}*")
        rows = [json.loads(line) for line in (directory / "reports.jsonl").read_text().splitlines()]
        for row in rows:
            row["seconds"] = seconds * row["step"] / 4
        (directory / "reports.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    before = sorted(path.stat().st_mtime_ns for path in run.rglob("*"))
    capsys.readouterr()

    shown = planned(capsys, tmp_path, *grid_)
    # three seeds of slope 1 with 4 steps of 0.5 s, which were measured; the others at 1 s a step
    assert "here about 1m 06s: 1 at a time" in shown
    assert "12 trials, each with 1 CPU and 1 GPU: 1m 06s of work, the longest 8.0s" in shown
    assert "dollars" in shown and "g4dn" not in shown.split("dollars")[0].splitlines()[0]
    resume = ("--resume", str(run), "--slope", "1", "3", "--seeds", "2")
    shown = planned(capsys, tmp_path, *resume)
    assert "2 of 4 trials are already finished\n2 trials, of 2 configs\n" in shown
    assert sorted(path.stat().st_mtime_ns for path in run.rglob("*")) == before
