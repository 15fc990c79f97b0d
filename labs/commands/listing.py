"""``labs list``: list the runs below a directory, the newest last."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Annotated, Any

import pandas as pd
import tyro

from labs.analysis.configs import group_configs, ranked
from labs.analysis.load import is_written
from labs.runtime.directory.description import CONFIG_FILE, is_description, restore
from labs.runtime.directory.storage import StoragePath, reason
from labs.runtime.errors import InputError
from labs.runtime.loop.console import say
from labs.runtime.options import expand_user
from labs.runtime.reports import Objective
from labs.runtime.results import DONE, FAILED, OVER, RUNNING

_DEPTH = 3
"""Depth of ``EXPERIMENT/NAME/config.json``. The root may also be an experiment or a run."""


@dataclass(frozen=True)
class List:
    """List the runs below a directory, each with its progress and its best config's mean over the seeds."""

    root: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="[ROOT]")] = "runs"
    """Directory of runs, or its URI on shared storage (s3://bucket/runs)."""

    def run(self) -> int:
        """Print a line per run."""
        root = StoragePath(self.root)
        try:
            places = find_runs(root)
            rows = [row for place in places if (row := describe(root, place)) is not None]
        except OSError as error:
            raise InputError(f"{self.root} cannot be read: {reason(error)}") from None
        if not rows:
            raise InputError(f"{self.root} contains no runs: name another directory such as runs")
        rows.sort(key=lambda row: str(row.pop("created")))
        say(pd.DataFrame(rows).to_string(index=False, na_rep=""))
        return 0


def find_runs(root: StoragePath) -> list[str]:
    """The runs in a directory, relative to it; ``.`` if it is a run itself."""
    if root.local is None:
        names = [name for name in root.files() if name.count("/") < _DEPTH]
    else:
        patterns = ("*/" * depth + CONFIG_FILE for depth in range(_DEPTH))
        found = [path for pattern in patterns for path in expand_user(root.local).glob(pattern)]
        names = [path.relative_to(expand_user(root.local)).as_posix() for path in found]
    return [
        name.rpartition("/")[0] or "." for name in names if name.rpartition("/")[2] == CONFIG_FILE
    ]


def describe(root: StoragePath, place: str) -> dict[str, Any] | None:
    """A run's line; None if the file does not belong to a run."""
    directory = root if place == "." else root / place
    described = _parsed(directory / CONFIG_FILE)
    if not is_description(described):
        return None
    trials = described.get("trials", [])  # a run of format 1 has none
    table = read_table(directory)
    counts = table["status"].value_counts() if "status" in table else pd.Series(dtype=int)
    over = sum(int(counts.get(status, 0)) for status in OVER)
    row: dict[str, Any] = {"run": place if place != "." else directory.name}
    created = str(described.get("created", ""))
    row |= {"created": created, "began": created[:16].replace("T", " ")}
    row |= {"done": f"{over}/{len(trials)}", "failed": int(counts.get(FAILED, 0)) or ""}
    row["state"] = RUNNING if is_written(directory) else _state(over, len(trials))
    return row | {"best": _best(table, restore(Objective, described.get("objective") or {}))}


def _best(table: pd.DataFrame, objective: Objective) -> str:
    if objective.metric is None or "status" not in table:
        return ""
    configs = ranked(group_configs(table, objective.metric), objective.mode)
    if not configs or not configs[0].complete:  # the rest may be the lucky seeds
        return ""
    scores = configs[0].scores
    value = f"{objective.metric} {scores.mean():.4g}"
    return value if len(scores) == 1 else f"{value} ({len(scores)} seeds)"


def _state(over: int, trials: int) -> str:
    return DONE if over == trials else "not finished"


def read_table(directory: StoragePath) -> pd.DataFrame:
    """A run's ``results.csv``; an empty table if it does not exist yet or is damaged."""
    content = (directory / "results.csv").read()
    if not content:
        return pd.DataFrame()
    try:
        return pd.read_csv(io.BytesIO(content), keep_default_na=False, na_values=[""])
    except ValueError:  # damaged
        return pd.DataFrame()


def _parsed(path: StoragePath) -> Any:
    try:
        return json.loads(path.read() or b"null")
    except (ValueError, UnicodeDecodeError):
        return None
