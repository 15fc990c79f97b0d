"""Accuracy by the number of training texts."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from labs.language.topics.classifier import (
    TopicTrial,
    best_c,
    cross_validate,
    draw_subset,
    make_classifier,
)
from labs.language.topics.learning_curve import (
    DRAWS,
    check_train_sizes,
    curve_figure,
    curve_table,
    curve_trials,
    edges_note,
)
from labs.runtime.errors import InputError
from labs.statistics import Interval

LABELS = np.repeat([0, 1, 2], [60, 90, 150])


def test_draws_keep_the_classes_shares_and_differ() -> None:
    chosen = [
        draw_subset(LABELS, 100, seed, draw) for seed, draw in ((1, 0), (1, 0), (1, 1), (2, 0))
    ]
    assert all(np.bincount(LABELS[rows]).tolist() == [20, 30, 50] for rows in chosen)
    assert all(len(set(rows.tolist())) == 100 for rows in chosen)
    np.testing.assert_array_equal(chosen[0], chosen[1])
    shared = [len(set(chosen[0].tolist()) & set(rows.tolist())) for rows in chosen[2:]]
    assert all(20 < count < 60 for count in shared)  # 33 by chance


def test_a_point_is_trained_on_its_texts_alone_and_tested_on_unseen_ones() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(300, 4)) + 1.2 * np.eye(4)[LABELS]).astype(np.float32)
    unseen = (rng.normal(size=(80, 4)) + 1.2 * np.eye(4)[np.arange(80) % 3]).astype(np.float32)
    texts, test_labels = [str(i) for i in range(300)], np.arange(80) % 3
    trial = TopicTrial(c=0.5, folds=3, seed=4, train_size=30, draw=2)
    *before, last = cross_validate(
        trial, vectors=vectors, texts=texts, labels=LABELS,
        test_inputs=(unseen, ["?"] * 80), test_labels=test_labels,
    )  # fmt: skip
    rows = draw_subset(LABELS, 30, 4, 2)
    model = make_classifier("embeddings", 0.5).fit(vectors[rows], LABELS[rows])
    assert last.metrics["test/accuracy"] == pytest.approx(
        (model.predict(unseen) == test_labels).mean()
    )
    assert all("test/accuracy" not in report.metrics for report in before)
    plain = cross_validate(TopicTrial(c=0.5, folds=3), vectors=vectors, texts=texts, labels=LABELS)
    assert "test/accuracy" not in list(plain)[-1].metrics


def test_c_is_chosen_for_each_draw_without_the_test_texts() -> None:
    rows = [
        # (features, c, train_size, draw, val/accuracy, test/accuracy)
        ("embeddings", 0.1, 50, 0, 0.70, 0.61),
        ("embeddings", 1.0, 50, 0, 0.95, 0.60),  # chosen, though worse on the test texts
        ("embeddings", 0.1, 50, 1, 0.75, 0.64),  # chosen: the smaller of equals
        ("embeddings", 1.0, 50, 1, 0.75, 0.99),
        ("embeddings", 0.1, np.nan, 0, 0.90, np.nan),
        ("tfidf", 1.0, 50, 0, 0.5, 0.4),
        ("tfidf", 1.0, 50, 1, 0.5, 0.5),
    ]
    names = ["features", "c", "train_size", "draw", "val/accuracy", "test/accuracy"]
    table = pd.DataFrame(rows, columns=names)
    whole = {"embeddings": Interval(0.9, 0.88, 0.92, 80), "tfidf": Interval(0.8, 0.7, 0.85, 80)}
    curve = curve_table(table, whole, 300)
    assert curve["features"].tolist() == ["embeddings"] * 2 + ["tfidf"] * 2
    assert curve["train_size"].tolist() == [50, 300] * 2 and curve["draws"].tolist() == [2, 1] * 2
    assert curve["accuracy"].tolist() == pytest.approx([0.62, 0.9, 0.45, 0.8])
    half = stats.t.ppf(0.975, 1) * np.std([0.60, 0.64], ddof=1) / np.sqrt(2)
    assert curve["high"][0] - curve["accuracy"][0] == pytest.approx(half)
    assert (curve["low"][2], curve["high"][2]) == (0, 1)  # cut off
    assert curve["low"].tolist()[1::2] == [0.88, 0.7]
    assert best_c(table, "embeddings") == 0.1  # points of the curve take no part
    lines = curve_figure(curve).axes[0].get_lines()
    assert lines[0].get_xdata().tolist() == [50, 300]
    assert lines[0].get_ydata() == pytest.approx([62, 90])


def test_points_whose_best_c_is_at_an_edge_are_counted() -> None:
    rows = [
        # (features, c, train_size, draw, val/accuracy)
        *(("embeddings", c, 50, 0, a) for c, a in ((0.1, 0.6), (1.0, 0.8), (10.0, 0.7))),
        *(("embeddings", c, 50, 1, a) for c, a in ((0.1, 0.8), (1.0, 0.8), (10.0, 0.7))),  # tied
        *(("embeddings", c, 90, 0, a) for c, a in ((0.1, 0.6), (1.0, 0.8), (10.0, 0.9))),
        *(("tfidf", c, 50, 0, a) for c, a in ((0.1, 0.6), (1.0, 0.8), (10.0, 0.7))),
        *(("embeddings", c, np.nan, 0, a) for c, a in ((0.1, 0.9), (1.0, 0.8), (10.0, 0.7))),
        ("tfidf_chars", 3.0, 50, 0, 0.5),  # a grid of one value has no edge
    ]
    table = pd.DataFrame(rows, columns=["features", "c", "train_size", "draw", "val/accuracy"])
    table["test/accuracy"] = 0.5
    assert "for 2 of 3 draws of Embeddings: a better one" in edges_note(table)
    assert edges_note(table[table["features"] != "embeddings"]) == ""


def test_trials_of_a_curve() -> None:
    base = [TopicTrial("embeddings", 0.1, 4, 9, "linear-svm"), TopicTrial("tfidf", 3.0, 4, 9)]
    trials = curve_trials(base, (100, 20, 100))
    assert len(set(trials)) == len(trials) == 2 * 2 * DRAWS
    assert {trial.train_size for trial in trials} == {20, 100}
    assert {(t.features, t.c, t.folds, t.seed, t.classifier) for t in trials} == {
        ("embeddings", 0.1, 4, 9, "linear-svm"),
        ("tfidf", 3.0, 4, 9, "logistic"),
    }


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (300, "`train_sizes` 300 must be between 3 and 297; all 300"),
        (2, "`train_sizes` 2 must be"),
        (20, "`train_sizes` 20: class 'a' has 4 of them, and there are 5 folds"),
    ],
)
def test_sizes_that_cannot_be_drawn_are_refused(size: int, message: str) -> None:
    check_train_sizes((30, 297), LABELS, ("a", "b", "c"), 5, 1)
    with pytest.raises(InputError, match=message):
        check_train_sizes((size,), LABELS, ("a", "b", "c"), 5, 1)
