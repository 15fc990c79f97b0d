"""One trial, driven here without Ray: what it saves, what it sends, and what it leaves."""

from __future__ import annotations

import bdb
import gc
import json
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from procedures import WalkConfig

from labs.runtime.checkpoints import load_checkpoint
from labs.runtime.directory.storage import StoragePath
from labs.runtime.directory.tracking import TrialLog, read_history, selected_report
from labs.runtime.loop.trainable import Trainable
from labs.runtime.reports import Checkpoint, Objective, Report
from labs.runtime.trial import GridSpec, StepResult, TrialRunner, TrialSpec

OBJECTIVE = Objective("val/accuracy")
VALUES = (0.1, 0.2, 0.9, 0.3, 0.4)


def course(
    values: Sequence[float] = VALUES,
    without: Sequence[int] = (),
    fail_at: int | None = None,
    **more: Callable[[int], dict[str, Any]],
) -> Callable[..., Iterator[Report]]:
    """A training procedure with these values at steps 1, 2, ...

    Args:
        values: of val/accuracy.
        without: steps whose reports have no checkpoint.
        fail_at: the step that is not reached.
        more: further arguments of the reports, by step.
    """

    def train(config: Any, resume: Checkpoint | None = None) -> Iterator[Report]:
        begin = resume["epoch"] if resume else 0
        for epoch, value in list(enumerate(values, 1))[begin:]:
            if epoch == fail_at:
                raise RuntimeError(f"planted at {epoch}")
            checkpoint = None if epoch in without else lambda epoch=epoch: {"epoch": epoch}
            extra = {name: make(epoch) for name, make in more.items()}
            yield Report(epoch, {"val/accuracy": value}, checkpoint, **extra)

    return train


def make_grid(
    directory: Path, train: Any, interval: float = 1e9, batch_seconds: float = 0.0
) -> GridSpec:
    spec = TrialSpec({}, StoragePath(directory / "checkpoints"))
    return GridSpec(train, [spec], OBJECTIVE, interval, batch_seconds, torch.get_num_threads())


class Session:
    """A driver that records what the trial sends, and may die."""

    def __init__(self, directory: Path, train: Any, interval: float = 1e9, **grid: Any) -> None:
        self.runner = TrialRunner(make_grid(directory, train, interval, **grid), 0, {})
        self.log = TrialLog(directory / "log", {}, OBJECTIVE)

    def run(self, lose_at: int | None = None, kill: bool = False) -> StepResult:
        """Until the end or a failure; the result with step ``lose_at`` is not recorded.

        ``kill``: the trial's process dies as well, and writes nothing more.
        """
        while True:
            result = self.runner.step()
            steps = [row["step"] for row in result["reports"]]
            if lose_at not in steps:
                self.log.add(result["reports"], result["best_step"])
            if lose_at in steps or result["done"] or result["failure"]:
                if not kill:
                    self.runner.close()
                return result


def steps(directory: Path) -> list[int]:
    return [row["step"] for row in read_history(directory / "log")]


def best(directory: Path) -> Checkpoint:
    return load_checkpoint(directory / "checkpoints" / "best.pt")


@pytest.mark.parametrize("lost", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("interval", [0, 1e9])
def test_reports_that_the_driver_did_not_record_are_sent_again(
    tmp_path: Path, lost: int, interval: float
) -> None:
    """Field case S20. Also where the driver dies at any step, with the trial closing in order."""
    train = course(
        histograms=lambda e: {"layer/weights": np.arange(e)}, texts=lambda e: {"n": str(e)}
    )
    Session(tmp_path, train, interval).run(lose_at=lost)
    second = Session(tmp_path, train, interval)
    sent = second.runner.step()["reports"]
    replayed = [row for row in sent if row["step"] == lost]
    assert replayed[0]["texts"] == {"n": str(lost)}
    assert list(replayed[0]["histograms"]["layer/weights"]) == list(range(lost))
    second.log.add(sent)
    second.run()
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    assert best(tmp_path)["epoch"] == 3
    report = best(tmp_path)["trial"]["report"]
    row = selected_report(read_history(tmp_path / "log"), OBJECTIVE)
    assert report == row


def test_what_is_acknowledged_is_not_sent_again(tmp_path: Path) -> None:
    Session(tmp_path, course(), interval=0).run(lose_at=4)
    sent = Session(tmp_path, course(), interval=0).runner.step()["reports"]
    assert [row["step"] for row in sent] == [4, 5]


def test_a_killed_process_loses_nothing_that_counts(tmp_path: Path) -> None:
    """The record is ahead of the checkpoint: another course of training replaces its end."""
    Session(tmp_path, course((0.1, 0.2, 0.3, 0.8, 0.9)), interval=0).run(lose_at=2, kill=True)
    ahead = Session(tmp_path, course((0.1, 0.2, 0.3, 0.8, 0.9)))
    ahead.run(lose_at=5, kill=True)  # records 2, 3 and 4 and saves nothing
    assert steps(tmp_path) == [1, 2, 3, 4]
    Session(tmp_path, course((0.1, 0.2, 0.7, 0.4, 0.5))).run()
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    assert [row["metrics"]["val/accuracy"] for row in read_history(tmp_path / "log")] == [
        0.1,
        0.2,
        0.7,
        0.4,
        0.5,
    ]
    assert best(tmp_path)["epoch"] == 3


def test_an_attempt_that_restarts_earlier_replaces_what_was_recorded(tmp_path: Path) -> None:
    """Three attempts: the first is recorded to step 4, the second saves step 3 and is not heard."""
    Session(tmp_path, course((0.1, 0.2, 0.3, 0.4, 0.5)), interval=0).run(lose_at=1)
    Session(tmp_path, course((0.1, 0.2, 0.3, 0.4, 0.5))).run(lose_at=5, kill=True)
    Session(tmp_path, course((0.1, 0.9, 0.8, 0.7, 0.6)), interval=0).run(lose_at=2)
    Session(tmp_path, course((0.1, 0.9, 0.8, 0.75, 0.65))).run()
    values = [row["metrics"]["val/accuracy"] for row in read_history(tmp_path / "log")]
    assert values == [0.1, 0.9, 0.8, 0.75, 0.65]
    assert best(tmp_path)["epoch"] == 2


@pytest.mark.parametrize("without", [(5,), (4, 5), (1, 2, 4, 5)])
def test_the_best_is_kept_where_the_last_reports_have_no_checkpoint(
    tmp_path: Path, without: tuple[int, ...]
) -> None:
    Session(tmp_path, course(without=without)).run()
    assert best(tmp_path)["epoch"] == 3


def test_a_better_report_without_a_checkpoint_is_not_the_selected_one(tmp_path: Path) -> None:
    session = Session(tmp_path, course((0.1, 0.5, 0.9, 0.4), without=(3,)))
    session.run()
    assert best(tmp_path)["epoch"] == session.log.best_step == 2
    history = read_history(tmp_path / "log")
    assert selected_report(history, OBJECTIVE, session.log.best_step)["step"] == 2


def test_a_trial_that_fails_writes_the_best_that_it_had(tmp_path: Path) -> None:
    """And a retry goes on from there, in one course of training with the table."""
    result = Session(tmp_path, course(fail_at=5)).run()
    assert result["failure"]["error"] == "RuntimeError: planted at 5"
    assert best(tmp_path)["epoch"] == 3
    assert load_checkpoint(tmp_path / "checkpoints" / "last.pt")["epoch"] == 3
    again = Session(tmp_path, course((0.1, 0.2, 0.9, 0.35, 0.45)))
    again.run()
    values = [row["metrics"]["val/accuracy"] for row in read_history(tmp_path / "log")]
    assert values == [0.1, 0.2, 0.9, 0.35, 0.45]
    assert best(tmp_path)["epoch"] == 3


@pytest.mark.parametrize("operation", range(6))
def test_a_process_that_dies_between_two_writes_leaves_a_matching_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: int
) -> None:
    """Dies before the n-th write or renaming; the next start puts it in order."""

    class Died(BaseException):
        pass

    count = 0

    def dying(action: Callable[..., None]) -> Callable[..., None]:
        def run(path: StoragePath, *arguments: Any) -> None:
            nonlocal count
            if path.parent.name == "checkpoints":
                count += 1
                if count > operation + 1:  # the first writes the token
                    raise Died
            action(path, *arguments)

        return run

    with monkeypatch.context() as patch:
        for name in ("write", "move"):
            patch.setattr(StoragePath, name, dying(getattr(StoragePath, name)))
        with pytest.raises(Died):
            Session(tmp_path, course(), interval=0).run()
    Session(tmp_path, course(), interval=0).run(lose_at=5)
    files = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert files == {"best.pt", "last.pt", "attempt.json"}
    Session(tmp_path, course()).run()
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    assert best(tmp_path)["epoch"] == 3


def test_a_best_checkpoint_that_last_does_not_name_is_removed(tmp_path: Path) -> None:
    Session(tmp_path, course((0.1, 0.2)), interval=0).run()
    directory = tmp_path / "checkpoints"
    stray = load_checkpoint(directory / "best.pt") | {"epoch": 99}
    stray["trial"]["report"]["step"] = 99
    torch.save(stray, directory / "best.pt.next")
    Session(tmp_path, course()).run()
    assert best(tmp_path)["epoch"] == 3
    assert not (directory / "best.pt.next").exists()


def test_an_outdated_attempt_stops_without_writing(tmp_path: Path) -> None:
    orphan = Session(tmp_path, course(), interval=0)
    orphan.log.add(orphan.runner.step()["reports"])
    newer = Session(tmp_path, course())
    newer.log.add(newer.runner.step()["reports"])
    before = (tmp_path / "checkpoints" / "last.pt").read_bytes()
    result = orphan.runner.step()
    assert "a newer attempt of this trial is running" in result["failure"]["error"]
    orphan.runner.close()
    assert (tmp_path / "checkpoints" / "last.pt").read_bytes() == before
    token = json.loads((tmp_path / "checkpoints" / "attempt.json").read_text())["token"]
    newer.run()
    assert steps(tmp_path) == [1, 2, 3, 4, 5]
    assert {row["attempt"] for row in read_history(tmp_path / "log")[1:]} == {token}


def failure(directory: Path, train: Any) -> str:
    result = Session(directory, train, batch_seconds=0.5).run()
    return result["failure"]["error"]


class Odd(BaseException):
    pass


@pytest.mark.parametrize(
    ("raised", "error"), [(SystemExit(3), "SystemExit: 3"), (Odd("cut off"), "Odd: cut off")]
)
def test_a_training_that_exits_fails_alone(
    tmp_path: Path, raised: BaseException, error: str
) -> None:
    """As where a library calls ``sys.exit``: neither the process nor the run may end with it."""

    def exits(config: Any, resume: Checkpoint | None = None) -> Iterator[Report]:
        yield Report(1, {"val/accuracy": 0.25}, lambda: {"epoch": 1})
        raise raised

    session = Session(tmp_path, exits, batch_seconds=0.5)
    assert session.run()["failure"]["error"] == error
    assert steps(tmp_path) == [1] and best(tmp_path)["epoch"] == 1
    with pytest.raises(RuntimeError, match=error):  # Tune then counts a failure
        session.runner.step()


def test_what_asks_the_process_to_end_is_raised_at_once(tmp_path: Path) -> None:
    from_ray = SystemExit(1)
    from_ray.ray_terminate_msg = "The process receives a SIGTERM."  # type: ignore[attr-defined]
    for number, asked in enumerate([KeyboardInterrupt(), bdb.BdbQuit(), from_ray]):

        def asks(
            config: Any, resume: Checkpoint | None = None, asked: BaseException = asked
        ) -> Iterator[Report]:
            yield Report(1, {"val/accuracy": 0.25}, lambda: {"epoch": 1})
            raise asked

        session = Session(tmp_path / str(number), asks, batch_seconds=0.5)
        with pytest.raises(type(asked)) as raised:
            session.run()
        assert raised.value is asked
        assert best(tmp_path / str(number))["epoch"] == 1


@pytest.mark.slow
def test_a_broken_contract_is_one_sentence(tmp_path: Path) -> None:
    def module(config: Any, resume: Checkpoint | None = None) -> Iterator[Report]:
        state = {"epoch": 1, "parts": [torch.zeros(2), {"model": torch.nn.Linear(1, 1)}]}
        yield Report(1, {"val/accuracy": 1.0}, lambda: state)

    assert "checkpoint['parts'][1]['model'] is a torch.nn.modules.linear.Linear" in failure(
        tmp_path / "a", module
    )

    def number(config: Any, resume: Checkpoint | None = None) -> Iterator[Report]:
        yield Report(1, {"val/accuracy": 1.0}, lambda: {"value": np.float64(1)})

    assert "checkpoint['value'] is a numpy.float64" in failure(tmp_path / "b", number)

    def back(config: Any, resume: Checkpoint | None = None) -> Iterator[Report]:
        for step in (1, 2, 2):
            yield Report(step, {"val/accuracy": 1.0})

    assert "step 2 was reported after step 2: steps must increase" in failure(tmp_path / "c", back)

    def typo(config: Any, resume: Checkpoint | None = None) -> Iterator[Report]:
        yield Report(1, {"val/acuracy": 1.0, "train/loss": 2.0}, lambda: {"epoch": 1})

    for _ in range(2):  # and again, where there is nothing left to train
        assert "has the metric 'val/accuracy'" in failure(tmp_path / "d", typo)
    assert "its metrics are train/loss, val/acuracy" in failure(tmp_path / "e", typo)

    def nothing(config: Any, resume: Checkpoint | None = None) -> Iterator[Report]:
        yield from ()

    assert "nothing ended without a report" in failure(tmp_path / "f", nothing)
    assert "returned int" in failure(tmp_path / "g", lambda config, resume: 3)
    assert "returned NoneType" in failure(tmp_path / "h", lambda config, resume: None)

    def other(config: Any, resume: Checkpoint | None = None) -> Iterator[Any]:
        yield {"val/accuracy": 1.0}

    assert "other yielded dict" in failure(tmp_path / "i", other)

    def reserved(config: Any, resume: Checkpoint | None = None) -> Iterator[Report]:
        yield Report(1, {"val/accuracy": 1.0}, lambda: {"trial": 1})

    assert "a checkpoint must not have the key 'trial'" in failure(tmp_path / "j", reserved)


@pytest.mark.parametrize("tag", ["loss", "step", "train/", "/loss", "train loss", "a b/loss"])
def test_a_tag_has_a_split(tag: str) -> None:
    with pytest.raises(ValueError, match="<split>/<metric>"):
        Report(1, {tag: 1.0})


def test_a_late_metric_and_a_whole_step() -> None:
    Report(1, {"eval/top/k": 1.0})
    with pytest.raises(ValueError, match="whole number"):
        Report(1.5, {"eval/top": 1.0})


CIRCLES: list[weakref.ref[Any]] = []
"""One per trial: models and tensors often hang in circles."""


class Circle:
    def __init__(self) -> None:
        self.me = self


def circular(config: WalkConfig, resume: Checkpoint | None = None) -> Iterator[Report]:
    circle = Circle()
    CIRCLES.append(weakref.ref(circle))
    for step in range(1, 4):
        yield Report(step, {"walk/position": float(step)})


def test_a_trial_leaves_nothing_and_the_imports_are_not_looked_through(tmp_path: Path) -> None:
    specs = [
        TrialSpec(WalkConfig(seed=seed), StoragePath(tmp_path / str(seed))) for seed in range(2)
    ]
    grid = GridSpec(circular, specs, Objective(), 60.0, 0.5, torch.get_num_threads())
    frozen = gc.get_freeze_count()
    trial = Trainable.__new__(Trainable)
    trial.setup({"index": 0}, grid)
    try:
        assert gc.get_freeze_count() > frozen + 10_000
        result = trial.step()
        assert result["completed"] and [r["step"] for r in result["reports"]] == [1, 2, 3]
        assert trial.reset_config({"index": 1})
        assert CIRCLES[0]() is None
        assert trial.step()["completed"]
    finally:
        trial.cleanup()
    assert CIRCLES[1]() is None
    assert gc.get_freeze_count() == 0
