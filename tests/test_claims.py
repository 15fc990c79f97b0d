"""Every sentence in docs/claims.md follows from the rows per trial beside it."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"


def load_module(name: str) -> ModuleType:
    """``results/<name>.py``, which finds its neighbours as a script does."""
    spec = importlib.util.spec_from_file_location(name, RESULTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


SENTENCES = load_module("sentences")
CLAIMS = load_module("claims")
_DEPTH = ("test/accuracy", "train/accuracy")
_GRADIENTS = ("classifier", "conv_first", "conv_last")
MEASURED = {
    "cifar10_depth": _DEPTH,
    "cifar10_depth_large": _DEPTH,
    "cifar10_gradient_flow": _GRADIENTS,
    "cifar10_gradient_flow_without_norm": _GRADIENTS,
    "class_activation_maps": ("area_most", "area_moved", "area_random"),
    "ag_news": ("test/accuracy",),
    "char_gpt": ("val/loss", "train/loss", "best/val/loss"),
    "agents": ("success", "return_mean"),
}
"""Of each study's trials.csv, the columns that the sentences are made of."""


def page() -> str:
    """The page in one line, so that it may be wrapped anywhere."""
    return " ".join((ROOT / "docs" / "claims.md").read_text().split())


def missing(study: str, tables: Mapping[str, pd.DataFrame]) -> list[str]:
    return [sentence for sentence in SENTENCES.STUDIES[study](tables) if sentence not in page()]


def test_every_folder_is_a_study() -> None:
    folders = {path.name for path in RESULTS.iterdir() if path.is_dir() and path.name[0] != "_"}
    assert folders == set(SENTENCES.STUDIES) == set(MEASURED)


@pytest.mark.parametrize("study", MEASURED)
def test_the_sentences_follow_from_the_rows(study: str) -> None:
    tables = SENTENCES.load(study)
    assert SENTENCES.STUDIES[study](tables)
    assert missing(study, tables) == []


def test_the_verdicts_follow_from_the_sentences() -> None:
    rows = CLAIMS.claim_rows(SENTENCES.load)
    assert len(rows) == len(CLAIMS.CLAIMS) >= 8
    assert [row for row in rows if row not in page()] == []


def test_no_sentence_stands_there_that_nothing_computes() -> None:
    """List items with a number in them are results, and all of them are generated."""
    text = (ROOT / "docs" / "claims.md").read_text()
    items = [" ".join(item.split()) for item in re.findall(r"^- ((?:.|\n(?!\n|- ))+)", text, re.M)]
    computed = {
        sentence
        for study in SENTENCES.STUDIES
        for sentence in SENTENCES.STUDIES[study](SENTENCES.load(study))
    }
    assert len(items) > 20
    assert set(items) == computed


@pytest.mark.parametrize("study", MEASURED)
def test_another_digit_is_noticed(study: str) -> None:
    """In any trial, of what the sentences are made of: the columns take turns."""
    tables = SENTENCES.load(study)
    trials = tables["trials"]
    for row in trials.index:
        # An agent has a success rate or, where the environment reports none, a return.
        columns = [c for c in MEASURED[study] if trials.loc[row, c] != 0][
            : 1 if study == "agents" else None
        ]
        column = columns[row % len(columns)]
        changed = trials.astype({column: float})
        changed.loc[row, column] *= 0.3
        assert missing(study, {**tables, "trials": changed}), (row, column)


def test_the_pilot_chose_the_learning_rates() -> None:
    pilot = pd.read_csv(RESULTS / "cifar10_depth" / "pilot.csv")
    trials = pd.read_csv(RESULTS / "cifar10_depth" / "trials.csv")
    by_rate = pilot.groupby(["family", "learning_rate"])["val/accuracy"].mean().unstack()
    assert dict(trials.groupby("family")["learning_rate"].unique().map(list)) == {
        family: [rate] for family, rate in by_rate.idxmax(axis=1).items()
    }
    assert set(pilot["seed"]).isdisjoint(trials["seed"])


def test_cross_validation_chose_c() -> None:
    """Of each draw the best, of equal ones the smallest."""
    tried = pd.read_csv(RESULTS / "ag_news" / "tried.csv")
    trials = pd.read_csv(RESULTS / "ag_news" / "trials.csv")
    for row in trials.itertuples():
        same = tried[(tried[["features", "train_size", "draw"]] == list(row[1:4])).all(axis=1)]
        best = same[same["val/accuracy"] == same["val/accuracy"].max()]
        assert row.c == best["c"].min() and len(same) == 4
        (expected,) = same[same["c"] == row.c].to_numpy().tolist()
        assert list(row[1:]) == expected
    assert len(tried) == 4 * len(trials) == 80


def test_there_is_a_command_for_every_study() -> None:
    text = (RESULTS / "README.md").read_text()
    for study in MEASURED:
        section = text.split(f"\n## {study}\n")[1].split("\n## ")[0]
        assert "    python " in section, study
        assert re.search(r"20\d\d-\d\d-\d\d", section), study
        assert "torch" in section or "That machine" in section, (
            study
        )  # the versions, or where they are


def test_results_are_small() -> None:
    for path in RESULTS.rglob("*"):
        assert path.is_dir() or path.stat().st_size <= 300_000, path


def test_no_digit_of_the_rows_has_changed() -> None:
    """Many digits do not show in the sentences; `sha256sum -c SHA256SUMS` says the same."""
    lines = (RESULTS / "SHA256SUMS").read_text().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    tables = {str(path.relative_to(RESULTS)): path for path in RESULTS.rglob("*.csv")}
    assert sums == {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in tables.items()
    }
