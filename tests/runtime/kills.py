"""Sweeps that are killed at chosen places and at random moments, and resumed until they are done.

A few run in the suite (test_kills.py); many are run by hand, the second with Ray's actors:

    python tests/runtime/kills.py --runs 60
    python tests/runtime/kills.py --runs 5 --ray

Afterwards every step of every trial is recorded once, the record is the course of training that led to
the last checkpoint, and best.pt is the table's best.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from labs.runtime.checkpoints import load_checkpoint
from labs.runtime.directory import recorder, runs, tracking
from labs.runtime.directory.runs import open_run
from labs.runtime.directory.storage import StoragePath
from labs.runtime.options import RuntimeOptions
from labs.runtime.reports import Checkpoint, Objective, Report
from labs.runtime.sweep import run_grid

PLACES = (
    "write best.pt.next",
    "write last.pt",
    "move best.pt.next",
    "write attempt.json",
    "append",
    "write config.json",
    "write state.json",
    "write results.csv",
)
"""Where a process may be told to die, before or after; see :func:`die_at`."""


@dataclass(frozen=True)
class Course:
    """A trial whose values differ in every attempt, as training on a GPU's do."""

    seed: int = 0
    steps: int = 12
    pause: float = 0.01
    fail: bool = False
    """Raise an error in half of all attempts."""


@dataclass(frozen=True)
class Described:
    """What ``config.json`` says beside the trials."""

    what: str = "kills"


def course(config: Course, resume: Checkpoint | None = None) -> Iterator[Report]:
    """Random values; the state is the list of all of them so far."""
    if plan := os.environ.get("LABS_KILL"):
        die_at(plan)
    values = list(resume["values"]) if resume else []
    fail_at = random.randrange(1, 2 * config.steps) if config.fail else 0
    while len(values) < config.steps:
        time.sleep(config.pause)
        values.append(random.random())
        if len(values) == fail_at:
            raise RuntimeError("planted")
        state = {"values": list(values)}
        yield Report(len(values), {"val/score": values[-1]}, lambda state=state: state)


class Death:
    """Dies by SIGKILL at a place, ``"12 before write last.pt /marker"``: at its 12th time, once.

    The marker is a file that is made at the death and prevents another.
    """

    armed = False

    def __init__(self, plan: str) -> None:
        count, self.when, self.action, self.name, self.marker = plan.split(" ")
        self.left = int(count)

    def around(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        """``inner(path, ...)``, with the death before or after it."""

        def run(path: Any, *arguments: Any, **named: Any) -> Any:
            here = getattr(path, "name", self.name) == self.name
            self.left -= here
            dies = here and self.left == 0 and not os.path.exists(self.marker)
            if dies:
                open(self.marker, "w").close()
            if dies and self.when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = inner(path, *arguments, **named)
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return run


def die_at(plan: str) -> None:
    """Arm this process, once."""
    if Death.armed:
        return
    Death.armed = True
    death = Death(plan)
    owners: list[tuple[Any, str]] = [(StoragePath, death.action)]
    if death.action == "append":
        owners = [(tracking.TrialLog, "_write_reports")]
    elif death.action == "write":
        modules = (runs, tracking, recorder)
        owners += [(m, "write_atomically") for m in modules if hasattr(m, "write_atomically")]
    for owner, name in owners:
        setattr(owner, name, death.around(getattr(owner, name)))


def drive(root: str, trials: int, resume: str | None, **options: Any) -> int:
    """One session: a sweep of so many trials, new or resumed."""
    if plan := os.environ.get("LABS_KILL_DRIVER"):
        die_at(plan)
    runtime = RuntimeOptions(run_root=root, resume=resume, max_failures=1, **options)
    configs = [Course(seed=seed, steps=9 + seed, fail=seed % 3 == 1) for seed in range(trials)]
    with open_run("kills", Described(), runtime) as run:
        result = run_grid(course, configs, run=run, objective=Objective("val/score"))
    return result.exit_status


def fork_session(
    root: str, trials: int, resume: str | None, seconds: float | None, **more: Any
) -> int:
    """:func:`drive` in local mode, in a forked process; its status. Far faster than a new one.

    Args:
        seconds: after so long the process gets ``more["signal"]``.
    """
    process = os.fork()
    if process == 0:
        status = 70
        try:
            random.seed()
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            for name in ("LABS_KILL", "LABS_KILL_DRIVER"):
                os.environ.pop(name, None)
            if more.get("plan"):
                die_at(more["plan"])
            interval = more.get("interval", 0.02)
            status = drive(root, trials, resume, local_mode=True, checkpoint_interval=interval)
        finally:
            os._exit(status)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(process, more["signal"])
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def ray_session(
    root: str, trials: int, resume: str | None, seconds: float | None, **more: Any
) -> int:
    """:func:`drive` with Ray, in a new process."""
    environment = dict(os.environ)
    if more.get("plan"):
        action = more["plan"].split(" ")[2:4]
        in_driver = action[0] == "append" or action[1].rpartition(".")[2] in ("json", "csv")
        in_driver = in_driver and action[1] != "attempt.json"
        environment["LABS_KILL_DRIVER" if in_driver else "LABS_KILL"] = more["plan"]
    command = [sys.executable, __file__, "drive", root, str(trials), resume or ""]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    if seconds is not None:
        time.sleep(8 + 3 * seconds)
        process.send_signal(more["signal"])
    return process.wait()


def check(run: Path, trials: int) -> None:
    """What must hold of a run that is done.

    Raises:
        AssertionError: it does not.
    """
    described = json.loads((run / "config.json").read_text())
    assert len({trial["identity"] for trial in described["trials"]}) == trials
    table = pd.read_csv(run / "results.csv")
    assert list(table["status"]) == ["done"] * trials, table[["name", "status", "error"]]
    for row in table.to_dict("records"):
        directory = run / "checkpoints" / row["name"]
        lines = (run / "tensorboard" / row["name"] / "reports.jsonl").read_text().splitlines()
        history = [json.loads(line) for line in lines]
        values = [report["metrics"]["val/score"] for report in history]
        assert [r["step"] for r in history] == list(range(1, row["steps"] + 1)), (row, history)
        assert load_checkpoint(directory / "last.pt")["values"] == values, (row, values)
        best = load_checkpoint(directory / "best.pt")
        assert best["values"] == values[: row["step"]], (row, best["values"], values)
        assert best["trial"]["report"]["step"] == row["step"]
        assert abs(row["val/score"] - max(values)) < 1e-12, (row, values)
        files = {path.name for path in directory.iterdir()}
        assert files == {"best.pt", "last.pt", "attempt.json"}, files


def one_run(root: Path, seed: int, session: Callable[..., int] = fork_session) -> int:
    """A sweep that is killed again and again, grows on the way, and is checked; how many deaths."""
    choose = random.Random(seed)
    trials, deaths, resume = 2, 0, None
    for number in range(choose.randrange(2, 6)):
        marker = root / f"died-{number}"
        seconds, plan = None, None
        if choose.random() < 0.7:
            place = choose.choice(PLACES)
            action, _, name = place.partition(" ")
            when = choose.choice(("before", "after"))
            count = 1 if name == "config.json" else choose.randrange(1, 12)
            plan = f"{count} {when} {action} {name or 'reports'} {marker}"
        else:
            seconds = choose.uniform(0.05, 0.8)
        status = session(
            str(root),
            trials,
            resume,
            seconds,
            plan=plan,
            signal=choose.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGINT)),
            interval=choose.choice((0.0, 0.02, 0.1, 60.0)),
        )
        assert status in (0, 1, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, 130, 143), status
        deaths += marker.exists() or seconds is not None
        found = [path for path in root.glob("kills/*") if (path / "config.json").exists()]
        resume = str(found[0]) if found else None
        trials += choose.random() < 0.4
    for _ in range(40):  # trials that fail by chance need more sessions
        if session(str(root), trials, resume, None) == 0:
            break
        found = [path for path in root.glob("kills/*") if (path / "config.json").exists()]
        resume = str(found[0])
    (run,) = [path for path in root.glob("kills/*") if (path / "config.json").exists()]
    check(run, trials)
    return deaths


def main() -> None:
    """Run many, and say how many deaths they survived."""
    if sys.argv[1:2] == ["drive"]:
        root, trials, resume = sys.argv[2:]
        sys.exit(drive(root, int(trials), resume or None, num_cpus=2, checkpoint_interval=0.0))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ray", action="store_true")
    options = parser.parse_args()
    deaths = 0
    for seed in range(options.seed, options.seed + options.runs):
        with tempfile.TemporaryDirectory(prefix="labs-kills-") as root:
            deaths += one_run(Path(root), seed, ray_session if options.ray else fork_session)
        print(f"run {seed}: {deaths} deaths survived", flush=True)


if __name__ == "__main__":
    # Workers import the procedure by its module's name, as they do a user's.
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    )
    from kills import main as run_main

    run_main()
