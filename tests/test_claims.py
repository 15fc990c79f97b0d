"""Every sentence in docs/claims.md follows from the rows per trial beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from labs.vision.depth import study as depth
from labs.vision.gradient_flow import summary as gradient_flow

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"


def depth_on_cifar10(trials: pd.DataFrame) -> list[str]:
    return depth.answers(trials, {"cifar10_jpeg": 10_000})


def gradients_on_cifar10(trials: pd.DataFrame) -> list[str]:
    return gradient_flow.findings(gradient_flow.ratios(trials))


STUDIES: dict[str, Callable[[pd.DataFrame], list[str]]] = {
    "cifar10_depth": depth_on_cifar10,
    "cifar10_gradient_flow": gradients_on_cifar10,
    "cifar10_gradient_flow_without_norm": gradients_on_cifar10,
}
MEASURED = {
    "cifar10_depth": ("test/accuracy", "train/accuracy"),
    "cifar10_gradient_flow": ("classifier", "conv_first", "conv_last"),
    "cifar10_gradient_flow_without_norm": ("classifier", "conv_first", "conv_last"),
}


def claims() -> str:
    """The page in one line, so that it may be wrapped anywhere."""
    return " ".join((ROOT / "docs" / "claims.md").read_text().split())


def missing(study: str, trials: pd.DataFrame) -> list[str]:
    return [sentence for sentence in STUDIES[study](trials) if sentence not in claims()]


@pytest.mark.parametrize("study", STUDIES)
def test_the_sentences_follow_from_the_rows(study: str) -> None:
    trials = pd.read_csv(RESULTS / study / "trials.csv")
    assert STUDIES[study](trials)
    assert missing(study, trials) == []


@pytest.mark.parametrize("study", STUDIES)
def test_another_digit_is_noticed(study: str) -> None:
    """In any trial, of what the sentences are made of."""
    trials = pd.read_csv(RESULTS / study / "trials.csv")
    for row in trials.index:
        for column in MEASURED[study]:
            changed = trials.copy()
            changed.loc[row, column] *= 3
            assert missing(study, changed), (row, column)


def test_the_pilot_chose_the_learning_rates() -> None:
    pilot = pd.read_csv(RESULTS / "cifar10_depth" / "pilot.csv")
    trials = pd.read_csv(RESULTS / "cifar10_depth" / "trials.csv")
    by_rate = pilot.groupby(["family", "learning_rate"])["val/accuracy"].mean().unstack()
    assert dict(trials.groupby("family")["learning_rate"].unique().map(list)) == {
        family: [rate] for family, rate in by_rate.idxmax(axis=1).items()
    }
    assert set(pilot["seed"]).isdisjoint(trials["seed"])


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
