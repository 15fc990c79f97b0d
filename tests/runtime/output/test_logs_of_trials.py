"""What trials print is in their logs: in actors, in this process, after a death, and within its limits."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from printing_procedures import PrintConfig, train

from labs.runtime.directory.runs import open_run
from labs.runtime.loop import tune_loop
from labs.runtime.machine.resources import Needs
from labs.runtime.options import RuntimeOptions
from labs.runtime.output.capture import Destination
from labs.runtime.output.collector import Collector
from labs.runtime.output.remote import start_receiver
from labs.runtime.reports import Objective
from labs.runtime.results import GridResult
from labs.runtime.sweep import run_grid

WAYS = ("print", "error", "logging", "warning", "descriptor", "C code", "child", "thread", "no end")


@dataclass(frozen=True)
class Config:
    pass


def sweep(tmp_path: Path, configs: list[PrintConfig], **options: Any) -> tuple[GridResult, Path]:
    needs = options.pop("needs", None)
    runtime = RuntimeOptions(run_root=str(tmp_path), run_name="run", **options)
    with open_run("print", Config(), runtime) as run:
        result = run_grid(train, configs, run=run, objective=Objective(), needs=needs)
        return result, run.path


def logs(run: Path) -> list[str]:
    """The texts of all logs, in the order of the trials' numbers."""
    return [path.read_text() for path in sorted((run / "logs").glob("*.txt"))]


@pytest.fixture(params=["the driver's machine", "another machine"])
def from_where(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the trials' processes are, as far as they can see."""
    if request.param == "another machine":

        def elsewhere(collector: Collector, options: RuntimeOptions) -> Destination:
            Path(collector.spools, ".host").write_text("another machine")
            return Destination(collector.spools, start_receiver(collector.spools))

        monkeypatch.setattr(tune_loop, "_destination", elsewhere)
    return str(request.param)


@pytest.mark.ray
@pytest.mark.usefixtures("private_ray")
class TestInActors:
    def test_all_output_is_in_the_log_of_its_trial(self, tmp_path: Path, from_where: str) -> None:
        configs = [PrintConfig(seed) for seed in range(3)]
        result, run = sweep(tmp_path, configs, max_concurrent=1)
        assert result.history["time/process"].nunique() == 1  # the actor was used again
        texts = logs(run)
        assert len(texts) == 3
        for seed, text in enumerate(texts):
            for way in WAYS:
                assert text.count(f"{way} {seed}") == 1, (way, text)
            others = [f" {other}\n" for other in range(3) if other != seed]
            assert not any(other in text for other in others)
            assert ":actor_name:" not in text and ":task_name:" not in text

    def test_threads_and_children_that_outlive_their_trial_write_into_its_log(
        self, tmp_path: Path
    ) -> None:
        configs = [PrintConfig(seed, "outlive", str(tmp_path)) for seed in range(2)]
        result, run = sweep(tmp_path, configs, max_concurrent=1)
        assert list(result.table["status"]) == ["done", "done"]
        first, second = logs(run)
        assert first.splitlines()[0] == "first trial"
        assert sorted(first.splitlines()[1:]) == ["stray child", "stray thread"]
        assert second == "second trial\n"

    @pytest.mark.slow
    def test_lines_come_while_nothing_is_reported_and_are_there_after_a_death(
        self, tmp_path: Path
    ) -> None:
        seen: list[tuple[float, str]] = []
        over = threading.Event()

        def look() -> None:
            while not over.wait(0.05):
                seen.extend((time.monotonic(), text) for text in logs(tmp_path / "print" / "run"))

        thread = threading.Thread(target=look)
        thread.start()
        configs = [PrintConfig(0, "hold_and_die", str(tmp_path))]
        result, run = sweep(tmp_path, configs, max_failures=1)
        over.set()
        thread.join()
        assert list(result.table["status"]) == ["done"]
        assert logs(run) == ["attempt 1\nlast words\nattempt 2\n"]
        first = min(at for at, text in seen if text == "attempt 1\n")
        next_ = min(at for at, text in seen if "last words" in text)
        assert next_ - first > 2  # it was held for four seconds

    @pytest.mark.slow
    def test_excess_output_is_cut_and_counted(self, tmp_path: Path, from_where: str) -> None:
        _, run = sweep(tmp_path, [PrintConfig(0, "flood")])
        lines = logs(run)[0].splitlines()
        assert lines[:3] == ["line 0", "line 1", "line 2"]
        kept = [line for line in lines if line.startswith("line ") or line == "the end"]
        dropped = [int(line.split()[1].replace(",", "")) for line in lines if "dropped" in line]
        assert 10_000 <= len(kept) < 20_000
        assert len(kept) + sum(dropped) == 100_001

    @pytest.mark.slow
    def test_the_last_lines_of_a_failed_trial_are_printed_under_its_name(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        _, run = sweep(tmp_path, [PrintConfig(0, "fail"), PrintConfig(1, "quiet")])
        shown = capsys.readouterr().out
        lines = "".join(f"    | before the end {n}\n" for n in range(15, 20))
        assert f": RuntimeError: planted\n{lines}" in shown
        assert "before the end 14" not in shown
        assert len(logs(run)) == 1  # none where nothing was printed
        assert f"what each trial has printed is in {run / 'logs'}\n" in shown

    @pytest.mark.slow
    def test_rollout_workers_write_into_the_log_of_their_trial(
        self, tmp_path: Path, from_where: str
    ) -> None:
        _, run = sweep(tmp_path, [PrintConfig(0, "roll_out")], needs=Needs(workers=1))
        lines = logs(run)[0].splitlines()
        (worker,) = [line.split()[1] for line in lines if line.startswith("worker")]
        assert f"reset in {worker}" in lines


@pytest.mark.usefixtures("without_ray")
class TestInThisProcess:
    def test_python_output_is_in_the_log_and_on_the_console(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        _, run = sweep(tmp_path, [PrintConfig(seed) for seed in range(2)], local_mode=True)
        shown = "".join(capfd.readouterr())
        texts = logs(run)
        for seed, text in enumerate(texts):
            for way in ("print", "error", "thread", "no end"):
                assert text.count(f"{way} {seed}") == shown.count(f"{way} {seed}") == 1, way
            assert "trial" not in text and f"print {1 - seed}" not in text  # the console's lines
        assert "descriptor 0" in shown and "descriptor 0" not in texts[0]

    def test_a_retry_appends(self, tmp_path: Path) -> None:
        _, run = sweep(tmp_path, [PrintConfig(0, "fail")], local_mode=True, max_failures=1)
        lines = [f"before the end {n}" for n in range(20)]
        assert logs(run)[0].splitlines() == 2 * lines
