"""`labs list`, `show`, `compare` and `rerun`, over runs that were made here."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from s3_server import s3_server

from labs.analysis.comparison import compare_runs
from labs.analysis.load import load_run
from labs.commands.cli import main
from labs.runtime.directory.lease import Lease
from labs.runtime.directory.storage import StoragePath
from labs.statistics import mean_interval

pytestmark = pytest.mark.usefixtures("without_ray")

SCRIPT = '''
"""Does a higher hill help?

Two paragraphs."""
import random
from dataclasses import dataclass
import labs

@dataclass(frozen=True)
class Trial:
    height: float = 1.0
    fails: bool = False
    seed: int = 0

def train(config, resume=None):
    noise = random.Random(config.seed)
    for step in range(1, 4):
        if config.fails and step == 2:
            raise ValueError("the hill <b>slid</b>")
        yield labs.Report(step, {"val/score": config.height * step + noise.random() / 10})

if __name__ == "__main__":
    labs.main(train, Trial, metric="val/score")
'''


def run_script(script: Path, *arguments: str) -> int:
    """``python SCRIPT ...`` in this process."""
    before = sys.argv
    sys.argv = [str(script), *arguments]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sys.argv = before
    return 0


def labs(*arguments: str | Path) -> int:
    """Exit status of ``labs ...`` in this process."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs: two heights, the same with more seeds, and one that fails."""
    place = tmp_path_factory.mktemp("place")
    script = place / "hills.py"
    script.write_text(SCRIPT)
    common = ("--run-root", "runs", "--local-mode", "--run-name")  # relative to where it begins
    heights = ("--height", "0.5", "2.5", "--seeds")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert run_script(script, *heights, "3", *common, "first") == 0
        assert run_script(script, *heights, "4", "--seed", "10", *common, "second") == 0
        assert run_script(script, "--fails", "--seeds", "2", *common, "bad") == 1
    return place / "runs"


def scores(root: Path, run: str) -> pd.DataFrame:
    return pd.read_csv(root / "hills" / run / "results.csv")


@pytest.mark.slow
def test_list(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert labs("list", root) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", "began", "done", "failed", "state", "best"]
    found = {line.split()[0]: line for line in lines[1:]}
    assert set(found) == {"hills/first", "hills/second", "hills/bad"}
    best = scores(root, "first").groupby("height")["val/score"].mean().max()
    expected = ["6/6", "done", "val/score", f"{best:.4g}", "(3", "seeds)"]
    assert found["hills/first"].split()[3:] == expected
    assert found["hills/bad"].split()[3:] == ["0/2", "2", "not", "finished"]
    assert labs("list", root / "hills" / "second") == 0  # a run itself
    assert "second" in capsys.readouterr().out
    assert labs("list", root / "nowhere") == 2
    assert capsys.readouterr().err == (
        f"error: {root / 'nowhere'} contains no runs: name another directory such as runs\n"
    )


def test_a_run_of_version_0_1_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = tmp_path / "runs" / "hills" / "old"
    old.mkdir(parents=True)
    described = {"experiment": "hills", "created": "2026-05-04T03:02:01+00:00", "git": None}
    described |= {"command": "hills.py", "config": {}, "runtime": {}, "versions": {}}
    (old / "config.json").write_text(json.dumps(described))
    (old / "results.csv").write_text("trial,name,status\n0,000-a,done\n")
    assert labs("list", tmp_path / "runs") == 0
    (line,) = capsys.readouterr().out.splitlines()[1:]
    assert line.split()[:4] == ["hills/old", "2026-05-04", "03:02", "1/0"]


@pytest.mark.slow
def test_show(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert labs("show", root / "hills" / "first") == 0
    out = capsys.readouterr().out
    assert "hills first: finished, 6 of 6 trials done" in out
    table = scores(root, "first")
    interval = mean_interval(table.loc[table["height"] == 2.5, "val/score"].to_numpy())
    assert f"height=2.5 {interval.format(3)}" in out
    assert (root / "hills" / "first" / "answers.txt").read_text().splitlines()[0] in out
    assert "run the rest" not in out


@pytest.mark.slow
def test_show_names_failed_trials_and_how_to_resume(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = root / "hills" / "bad"
    assert labs("show", path) == 0
    out = capsys.readouterr().out
    assert "failed: 000-seed=0: ValueError: the hill <b>slid</b>" in out
    assert '    raise ValueError("the hill <b>slid</b>")' in out  # of the traceback
    script = path.parent.parent.parent / "hills.py"
    assert f"run the rest with: python {script} --resume {path}" in out


@pytest.mark.slow
def test_show_a_running_run(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "hills" / "going"
    subprocess.run(["cp", "-r", root / "hills" / "first", run.parent.mkdir() or run], check=True)
    trials = sorted(path for path in (run / "tensorboard").iterdir() if path.name[0] == "0")
    for trial in trials[3:]:
        (trial / "state.json").unlink()
    reports = (trials[3] / "reports.jsonl").read_text().splitlines()
    (trials[3] / "reports.jsonl").write_text(f"{reports[0]}\n{reports[1]}\n")
    (trials[4] / "reports.jsonl").unlink()
    (trials[5] / "reports.jsonl").unlink()
    (run / "answers.txt").unlink()
    table = pd.read_csv(run / "results.csv").head(4)
    table.loc[3, "status"] = "running"
    table.to_csv(run / "results.csv", index=False)
    assert labs("show", run) == 0
    assert "not finished, 3 of 6" in (out := capsys.readouterr().out)
    assert "3 trials have not ended, 1 of them have started" in out
    lease = Lease(StoragePath(run))
    lease.acquire()
    try:
        assert load_run(run).is_written
        assert labs("show", run) == 0
        out = capsys.readouterr().out
        assert "hills going: running, 3 of 6 trials done" in out
        value = json.loads(reports[1])["metrics"]["val/score"]
        assert f"running: {trials[3].name}: step 2, " in out and f"val/score {value:.4g}" in out
        assert "2 trials are waiting" in out and "run the rest" not in out
        assert labs("list", run) == 0
        line = capsys.readouterr().out.splitlines()[1]
        assert line.split()[3:5] == ["3/6", "running"]
    finally:
        lease.release()
    assert not load_run(run).is_written


@pytest.mark.slow
def test_compare(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = tmp_path / "both.svg"
    runs = [root / "hills" / name for name in ("first", "second")]
    assert labs("compare", *runs, "--figure", figure) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[1:3] == [
        " seed     0     10",
        "seeds     3      4",
    ]  # fmt: skip
    for run in ("first", "second"):
        table = scores(root, run)
        for height in (0.5, 2.5):
            values = table.loc[table["height"] == height, "val/score"].to_numpy()
            assert f"{run} height={height} {mean_interval(values).format(3)}" in out
    assert "No significant difference between the runs for 2 pairs of configs." in out
    assert figure.read_text().startswith("<?xml")
    assert labs("compare", runs[0]) == 2
    assert "needs two runs or more" in capsys.readouterr().err
    assert labs("compare", *runs, "--metric", "val/height") == 2
    assert "--metric val/height is not in" in capsys.readouterr().err


@pytest.mark.slow
def test_runs_of_equal_configs_are_compared_config_by_config(root: Path, tmp_path: Path) -> None:
    """The code has changed, say: the same configs, other numbers in one of them."""
    rng = np.random.default_rng(3)
    runs = [load_run(root / "hills" / name) for name in ("first", "second")]
    low = runs[1].table["height"] == 0.5
    runs[1].table.loc[low, "val/score"] = 0.2 + 0.01 * rng.random(4)
    told = compare_runs(runs).sentences()
    before = runs[0].table.loc[runs[0].table["height"] == 0.5, "val/score"].mean()
    change = runs[1].table.loc[low, "val/score"].mean() - before
    assert told[0].startswith(
        f"second height=0.5 is worse than first height=0.5: val/score {change:+.4g} (95%"
    )
    assert told[1:] == ["No significant difference between the runs for 1 pair of configs."]


@pytest.mark.slow
def test_rerun(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = root / "hills" / "first"
    script = root.parent / "hills.py"

    class Replaced(Exception):
        pass

    def execv(path: str, command: list[str]) -> None:
        assert path == command[0] == sys.executable
        raise Replaced(command[1:])

    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.chdir(root)
    with pytest.raises(Replaced) as told:
        main(["rerun", "hills/first", "--run-name", "third"])
    command = told.value.args[0]
    assert command == [str(script), "--rerun", str(first), "--run-name", "third"]
    assert run_script(script, *command[1:]) == 0
    capsys.readouterr()
    again = compare_runs([load_run(first), load_run(root / "hills" / "third")])
    assert again.sentences() == ["The runs have the same val/score for every config and seed."]
    assert again.options().empty
    config = json.loads((root / "hills" / "third" / "config.json").read_text())
    assert config["about"] != "" and config["program"] == [str(script)]


@pytest.mark.slow
def test_a_run_that_was_moved_goes_on_where_it_is_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As docs/results.md says; the place that it began in is gone."""
    script = tmp_path / "hills.py"
    script.write_text(
        SCRIPT.replace("/ 10})", '/ 10}, lambda: {"step": step, "seed": config.seed})')
    )
    monkeypatch.chdir(tmp_path)
    common = ("--local-mode", "--height", "0.5", "2.5", "--run-name", "first")
    assert run_script(script, *common, "--seeds", "2") == 0
    before = scores(tmp_path / "runs", "first")
    moved = tmp_path / "elsewhere" / "hills" / "first"
    moved.parent.mkdir(parents=True)
    (tmp_path / "runs" / "hills" / "first").rename(moved)
    shutil.rmtree(tmp_path / "runs")
    assert load_run(moved).load_checkpoint(1)["seed"] == 1
    capsys.readouterr()
    assert run_script(script, "--resume", str(moved), "--seeds", "3") == 0
    assert "4 of 6 trials are already finished" in capsys.readouterr().out
    assert labs("show", moved) == 0
    (resumed,) = (x for x in capsys.readouterr().out.splitlines() if x.startswith("resumed "))
    command = f"hills.py --resume {moved} --seeds 3"
    assert resumed.endswith(command)
    assert command in (moved / "report.html").read_text()
    after = scores(tmp_path / "elsewhere", "first")
    assert len(after) == 6 and (after["status"] == "done").all()
    assert list(after["val/score"][:4]) == list(before["val/score"])
    run = load_run(moved)
    assert Path(run.checkpoint_path()).is_relative_to(moved)
    assert run.load_checkpoint()["step"] == 3
    assert run_script(script, "--rerun", str(moved), "--run-name", "again") == 0
    assert labs("compare", moved, moved.with_name("again")) == 0
    assert "The runs have the same val/score" in capsys.readouterr().out
    assert not (tmp_path / "runs").exists()  # nothing is written where it began


@pytest.mark.slow
def test_rerun_reports_what_differs(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tmp_path / "runs" / "hills" / "first"
    first.mkdir(parents=True)
    config = json.loads((root / "hills" / "first" / "config.json").read_text())
    config["versions"]["torch"] = "1.0.0"
    config["git"]["labs"] = "0123456789abcdef"
    (first / "config.json").write_text(json.dumps(config))
    script = root.parent / "hills.py"
    assert run_script(script, "--rerun", str(first), "--height", "0.5", "3", "--run-name", "x") == 0
    out = capsys.readouterr().out
    assert "note: the code of labs is at " in out and "the run started at 0123456789" in out
    assert "note: the versions differ: torch " in out and "(then 1.0.0)" in out
    assert "`height` is 3.0 here and 2.5 in its trial 003-height=2.5-seed=0" in out
    table = pd.read_csv(first.parent / "x" / "results.csv")
    assert sorted(set(table["height"])) == [0.5, 3.0] and len(table) == 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("rerun", "nothing"), "nothing: labs list shows the runs"),
        (("show", "nothing"), "nothing: labs list shows the runs"),
        (("lst", "nothing"), "lst is not a command: did you mean list? use list, show, "),
        (("show",), "no value for RUN: --help shows the options"),
        (("compare", "RUN"), "a comparison needs two runs or more"),
        (("show", "nothing", "--wide"), "--wide is not an option: see labs show --help"),
        (
            ("rerun", "RUN", "--script", "gone.py"),
            "gone.py does not exist: give its new path with --script",
        ),
    ],
)
def test_bad_input(
    root: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], error: str
) -> None:
    given = [str(root / "hills" / "first") if a == "RUN" else a for a in arguments]
    assert labs(*given) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1 and error in told.err


@pytest.mark.slow
def test_rerun_and_resume_or_preset(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script, first = root.parent / "hills.py", str(root / "hills" / "first")
    assert run_script(script, "--rerun", first, "--resume", first) == 2
    assert "use only one" in capsys.readouterr().err
    assert run_script(script, "--rerun", first, "--preset", "paper") == 2
    assert "use only one" in capsys.readouterr().err


@pytest.mark.slow
def test_as_a_module(root: Path) -> None:
    command = [sys.executable, "-m", "labs", "list", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "hills/first" in done.stdout


@pytest.fixture
def bucket(root: Path) -> Iterator[str]:
    """The runs, in a bucket."""
    with s3_server():
        for path in (path for path in root.rglob("*") if path.is_file()):
            target = StoragePath("s3://results/runs") / path.relative_to(root).as_posix()
            target.write(path.read_bytes())
        for name in ("first", "second"):
            session = StoragePath("s3://results/runs") / f"hills/{name}/session.json"
            session.write(b'{"lease": 1}')
        yield "s3://results/runs"


@pytest.mark.slow
def test_runs_in_a_bucket(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert labs("list", bucket) == 0
    assert "hills/first" in capsys.readouterr().out
    assert labs("show", f"{bucket}/hills/first") == 0
    assert "hills first: finished, 6 of 6" in capsys.readouterr().out
    assert labs("compare", f"{bucket}/hills/first", f"{bucket}/hills/second") == 0
    out = capsys.readouterr().out
    assert "No significant difference between the runs for 2 pairs of configs." in out
    assert labs("show", f"{bucket}/hills/no") == 2
    said = capsys.readouterr().err
    assert said == f"error: {bucket}/hills/no is not a run: it has no session.json\n"
    assert {path.name for path in tmp_path.iterdir()} == {"comparison.png"}
