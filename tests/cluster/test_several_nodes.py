"""Sweeps over several nodes of one machine: spread, GPUs, and a node that dies in mid-sweep."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from node_procedures import NodeConfig, where

from labs.runtime.directory.runs import open_run
from labs.runtime.errors import InputError
from labs.runtime.options import RuntimeOptions
from labs.runtime.reports import Objective
from labs.runtime.results import GridResult
from labs.runtime.sweep import run_grid

TESTS = Path(__file__).parent.parent

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_ray")]


@dataclass(frozen=True)
class Config:
    pass


class Nodes:
    """The cluster in another process."""

    def __init__(self) -> None:
        paths = [str(TESTS / "cluster"), str(TESTS / "runtime"), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, str(TESTS / "cluster" / "cluster_process.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(paths),
                "RAY_raylet_start_wait_time_s": "120",
            },
        )
        self.address = self._wait_for("address")

    def do(self, *command: str) -> None:
        self._process.stdin.write(" ".join(command) + "\n")
        self._process.stdin.flush()
        self._wait_for("did")

    def end(self) -> None:
        self._process.communicate(timeout=120)

    def _wait_for(self, word: str) -> str:
        for line in self._process.stdout:
            if line.startswith(word + " "):
                return line.split()[1]
        raise RuntimeError("the cluster's process has ended")


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    nodes = Nodes()
    yield nodes
    nodes.end()


@pytest.fixture
def cluster(nodes: Nodes) -> Nodes:
    """A head without room for trials, and two nodes with two (fake) GPUs each."""
    nodes.do("complete")
    return nodes


def sweep(
    cluster: Nodes, tmp_path: Path, configs: list[NodeConfig], **options: object
) -> GridResult:
    runtime = RuntimeOptions(run_root=str(tmp_path), address=cluster.address, **options)
    with open_run("nodes", Config(), runtime) as run:
        return run_grid(
            where,
            configs,
            run=run,
            objective=Objective("walk/position", last_step=configs[0].steps),
        )


def test_fractional_gpus_are_spread_over_the_nodes(
    cluster: Nodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "meet").mkdir()
    configs = [NodeConfig(seed=s, meet=str(tmp_path / "meet"), together=8) for s in range(8)]
    result = sweep(cluster, tmp_path, configs, gpus_per_trial=0.5)
    assert list(result.table["status"]) == ["done"] * 8
    assert "8 at a time, each with 1 CPU and 0.5 GPU\n" in capsys.readouterr().out
    seen = result.history.groupby("trial")[["where/node", "where/gpu"]].first()
    # Two nodes, two GPUs each, two trials on each GPU; each trial sees exactly one GPU.
    assert sorted(seen.groupby("where/node").size()) == [4, 4]
    assert sorted(seen.groupby(["where/node", "where/gpu"]).size()) == [2, 2, 2, 2]
    assert set(seen["where/gpu"]) == {0, 1}


def kill_a_node_when(cluster: Nodes, ready: Path, trials: int) -> threading.Thread:
    """Take the last node away, without a word, as soon as ``ready`` holds a file of each trial.

    They wait there for one more file, which says that the node is gone.
    """

    def wait_and_kill() -> None:
        while len(list(ready.iterdir())) < trials:
            time.sleep(0.05)
        cluster.do("kill")
        (ready / "killed").touch()

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    return thread


def test_trials_of_a_node_that_dies_continue_elsewhere(cluster: Nodes, tmp_path: Path) -> None:
    (tmp_path / "meet").mkdir()
    configs = [
        NodeConfig(seed=s, steps=16, pause=0.1, mark=str(tmp_path / "meet"), mark_at=3, together=5)
        for s in range(4)
    ]
    killer = kill_a_node_when(cluster, tmp_path / "meet", 4)
    result = sweep(
        cluster, tmp_path, configs, gpus_per_trial=1, max_failures=2, checkpoint_interval=0
    )
    killer.join()
    assert list(result.table["seed"]) == [0, 1, 2, 3]
    assert list(result.table["status"]) == ["done"] * 4
    moved = 0
    for index, config in enumerate(configs):
        history = result.history[result.history["trial"] == index]
        assert list(history["step"]) == list(range(1, 17))  # none twice, none missing
        expected = [r.metrics["walk/position"] for r in where(config.without_waiting())]
        assert list(history["walk/position"]) == expected
        if history["where/node"].nunique() == 2:
            moved += 1
            begun = history.groupby("where/node", sort=False)["where/resumed_at"].first().tolist()
            assert begun[0] == 0
            assert begun[1] >= 2  # not from the beginning
    assert moved == 2


def test_without_retries_a_dead_node_is_an_error_in_the_table(
    cluster: Nodes, tmp_path: Path
) -> None:
    (tmp_path / "meet").mkdir()
    configs = [
        NodeConfig(seed=s, steps=16, pause=0.1, mark=str(tmp_path / "meet"), mark_at=2, together=3)
        for s in range(2)
    ]
    killer = kill_a_node_when(cluster, tmp_path / "meet", 2)
    result = sweep(cluster, tmp_path, configs, gpus_per_trial=2)  # one on each node
    killer.join()
    assert sorted(result.table["status"]) == ["done", "failed"]
    assert all(result.table.loc[result.table["status"] == "failed", "error"].str.len() > 0)
    assert result.exit_status == 1


def test_a_directory_of_one_machine_is_refused_on_several(cluster: Nodes, tmp_path: Path) -> None:
    cluster.do("add", "127.0.0.2")
    with pytest.raises(
        InputError, match=r"directory of one machine, and this cluster has 2.*s3://"
    ):
        sweep(cluster, tmp_path, [NodeConfig()])
    assert list(tmp_path.iterdir()) == []
    # The same directory as a URI says that every machine sees it.
    runtime = RuntimeOptions(
        run_root=f"file://{tmp_path}/shared", address=cluster.address, resume=None
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        with open_run("nodes", Config(), runtime) as run:
            result = run_grid(where, [NodeConfig()], run=run, objective=Objective("walk/position"))
    assert list(result.table["status"]) == ["done"]
    checkpoint = Path(result.checkpoint(0).removeprefix("file://"))
    assert checkpoint.name == "best.pt"
    assert checkpoint.is_file()
    assert checkpoint.is_relative_to(tmp_path / "shared")


SCRIPT = """
import os
from dataclasses import dataclass

import helper
import labs
from labs.runtime import sweep

# Other machines have no files of this one, which these see: hide them once the cluster is joined.
run_trials = sweep._run_trials


def hide_and_run(*arguments):
    os.rename("helper.py", "hidden.txt")
    os.rename("words", "hidden")
    run_trials(*arguments)


sweep._run_trials = hide_and_run


@dataclass(frozen=True)
class Trial:
    seed: int = 0


def train(config, resume=None):
    from words.late import WORD  # beside the script, too, and imported where it runs

    print(helper.__file__)
    yield labs.Report(1, {"val/score": helper.score(config.seed) + len(WORD)})


if __name__ == "__main__":
    labs.main(train, Trial, metric="val/score")
"""


def test_the_modules_beside_a_script_reach_the_machines(cluster: Nodes, tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "words").mkdir(parents=True)
    (own / "main.py").write_text(SCRIPT)
    (own / "helper.py").write_text("def score(seed):\n    return seed + 0.5\n")
    (own / "words" / "__init__.py").touch()
    (own / "words" / "late.py").write_text("WORD = 'seven77'\n")
    command = [sys.executable, "main.py", "--seeds", "2", "--run-root", f"file://{tmp_path}"]
    command += ["--address", cluster.address, "--run-name", "run"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=own, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "main" / "run"
    assert list(pd.read_csv(run / "results.csv")["val/score"]) == [7.5, 8.5]
    printed = [path.read_text().strip() for path in sorted((run / "logs").glob("*.txt"))]
    assert len(printed) == 2
    assert all(path.endswith("helper.py") and "py_modules_files" in path for path in printed)
