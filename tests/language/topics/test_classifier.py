"""The classifier, its scores, and how it is chosen."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn import metrics as reference
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from labs.language.embeddings.embedder import EmbeddingOptions
from labs.language.embeddings.encoders import Encoder
from labs.language.embeddings.vectors import Plan
from labs.language.topics import classifier
from labs.language.topics import evaluation as topic_evaluation
from labs.language.topics import figures as topic_figures
from labs.language.topics.classifier import (
    TopicModel,
    TopicTrial,
    baseline_probabilities,
    best_c,
    check_folds,
    cross_validate,
    fit_topic_model,
    load_topic_model,
    make_classifier,
)
from labs.language.topics.texts import LabeledTexts
from labs.runtime.checkpoints import save_checkpoint
from labs.runtime.errors import InputError

CLASSES = ("World", "Sports", "Business")
ENCODER = Encoder("some-encoder", "some-encoder", None, "abc", 512)
PLAN = Plan(ENCODER, EmbeddingOptions(max_length=128))


def clusters(n: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping Gaussian clusters of very different scales: float32 ``[n, 6]``, int64 ``[n]``."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    vectors = rng.normal(size=(n, 6)) + 1.5 * np.eye(6)[labels]
    return (vectors * [1, 10, 0.1, 1, 1, 1] + 3).astype(np.float32), labels


def fit(vectors: np.ndarray, labels: np.ndarray, classes: int, c: float = 0.5) -> TopicModel:
    return fit_topic_model(vectors, labels, CLASSES[:classes], c, PLAN)


@pytest.mark.parametrize("classes", [2, 3])
def test_plain_arrays_give_scikit_learns_probabilities(classes: int, tmp_path: Path) -> None:
    vectors, labels = clusters(300, classes)
    new, _ = clusters(50, classes, seed=1)
    fit(vectors, labels, classes).save(tmp_path / "model.pt")
    model = load_topic_model(tmp_path / "model.pt")
    expected = make_classifier("embeddings", 0.5).fit(vectors, labels).predict_proba(new)
    np.testing.assert_allclose(model.probabilities(new), expected, atol=1e-5)
    np.testing.assert_allclose(model.probabilities(new).sum(axis=1), 1)
    assert model.classes == CLASSES[:classes]
    assert (model.encoder, model.encoder_hash, model.max_length) == ("some-encoder", "abc", 128)


def test_each_class_has_a_logistic_regression_on_standardised_vectors() -> None:
    """Each against the rest, with the given C; the shares are divided by their sum."""
    vectors, labels = clusters(200, 3)
    new, _ = clusters(40, 3, seed=1)
    mean, std = vectors.mean(axis=0, dtype=float), vectors.std(axis=0, dtype=float)
    shares = []
    for label in range(3):
        one = LogisticRegression(C=0.02, max_iter=2000)
        one.fit((vectors - mean) / std, labels == label)
        shares.append(one.predict_proba((new - mean) / std)[:, 1])
    expected = np.transpose(shares) / np.sum(shares, axis=0)[:, None]
    found = fit(vectors, labels, 3, c=0.02).probabilities(new)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_only_a_topic_model_is_loaded(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.pt", {"kind": "vision.classifier"})
    with pytest.raises(InputError, match="of kind vision.classifier, language.topics is needed"):
        load_topic_model(tmp_path / "a.pt")
    save_checkpoint(tmp_path / "b.pt", {"kind": "language.topics", "mean": torch.zeros(2)})
    with pytest.raises(InputError, match="is incomplete"):
        load_topic_model(tmp_path / "b.pt")


def test_scores_are_scikit_learns() -> None:
    rng = np.random.default_rng(3)
    labels, predicted = rng.integers(0, 4, 200), rng.integers(0, 3, 200)  # 3 is never predicted
    confusion = topic_evaluation.confusion_matrix(labels, predicted, 4)
    np.testing.assert_array_equal(confusion, reference.confusion_matrix(labels, predicted))
    expected = reference.precision_recall_fscore_support(
        labels, predicted, average="macro", zero_division=0
    )
    found = topic_evaluation.scores(confusion)
    assert found["accuracy"] == pytest.approx((labels == predicted).mean())
    names = ("macro_precision", "macro_recall", "macro_f1")
    assert [found[name] for name in names] == pytest.approx(list(expected[:3]))


def test_intervals_hold_the_estimate_and_narrow_with_more_texts() -> None:
    rng = np.random.default_rng(5)
    widths = []
    for n in (100, 2500):
        labels = rng.integers(0, 3, n)
        right = rng.random(n) < 0.8
        predicted = np.where(right, labels, (labels + 1) % 3)
        found = topic_evaluation.evaluate(labels, np.eye(3)[predicted], CLASSES, seed=0)
        accuracy = found.metrics["accuracy"]
        assert accuracy.estimate == pytest.approx(right.mean())
        # The normal approximation of a proportion's interval, within a fifth of its width.
        half = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / n)
        assert accuracy.high - accuracy.estimate == pytest.approx(half, rel=0.2)
        widths.append(accuracy.high - accuracy.low)
        assert found.per_class["texts"].tolist() == np.bincount(labels).tolist()
        assert found.per_class["texts"].tolist() != np.bincount(predicted).tolist()
        other = topic_evaluation.evaluate(labels, np.eye(3)[predicted], CLASSES, seed=1)
        assert other.metrics["macro_f1"].low != found.metrics["macro_f1"].low
    assert widths[1] < widths[0] / 3


@pytest.mark.parametrize("right", [True, False])
def test_a_few_texts_that_are_all_right_prove_little(right: bool) -> None:
    """No resampled set of texts differs then, and the bootstrap alone would be certain."""
    labels = np.arange(18) % 3
    predicted = labels if right else (labels + 1) % 3
    found = topic_evaluation.evaluate(labels, np.eye(3)[predicted], CLASSES, seed=0)
    for interval in found.metrics.values():
        # What a score test of the proportion does not reject (Wilson, 1927).
        bound = 18 / (18 + 1.959964**2)
        expected = (1.0, bound, 1.0) if right else (0.0, 0.0, 1 - bound)
        assert (interval.estimate, interval.low, interval.high) == pytest.approx(expected)


def test_gain_is_paired() -> None:
    labels = np.zeros(400, dtype=np.int64)
    ours, theirs = np.zeros(400, np.int64), np.zeros(400, np.int64)
    ours[:100], theirs[:120] = 1, 1  # wrong on the same texts, and theirs on 20 more
    gain = topic_evaluation.accuracy_gain(labels, np.eye(2)[ours], np.eye(2)[theirs], seed=0)
    assert gain.estimate == pytest.approx(0.05)
    assert 0.02 < gain.low < 0.05 < gain.high < 0.08  # unpaired it would reach from -0.01 to 0.11
    lows = {
        topic_evaluation.accuracy_gain(labels, np.eye(2)[ours], np.eye(2)[theirs], seed=seed).low
        for seed in range(6)
    }
    assert len(lows) > 1


def test_the_most_confident_mistakes_come_first() -> None:
    probabilities = np.array([[0.6, 0.4], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8]])
    found = topic_evaluation.confident_mistakes(
        ["right", "worst", "right too", "bad"], np.array([0, 0, 1, 0]), probabilities, ("a", "b")
    )
    assert found["text"].tolist() == ["worst", "bad"]
    assert found["probability"].tolist() == [0.9, 0.8]
    assert set(found["true"]) == {"a"} and set(found["predicted"]) == {"b"}


def test_cross_validation_holds_every_text_out_once_and_resumes() -> None:
    vectors, labels = clusters(150, 3)
    config = TopicTrial(c=1.0, folds=4, seed=2)
    shared = {"vectors": vectors, "texts": [str(i) for i in range(150)], "labels": labels}
    reports = list(cross_validate(config, **shared))
    assert [report.step for report in reports] == [1, 2, 3, 4]
    folds = [report.metrics["fold/accuracy"] for report in reports]
    assert "val/accuracy" not in reports[2].metrics
    assert reports[3].metrics["val/accuracy"] == pytest.approx(np.mean(folds))
    assert np.mean(folds) > 0.6
    resumed = list(cross_validate(config, resume=reports[1].checkpoint(), **shared))
    assert [report.metrics for report in resumed] == [report.metrics for report in reports[2:]]
    assert list(cross_validate(config, resume=reports[3].checkpoint(), **shared)) == []


def test_each_fold_is_scored_on_the_texts_that_it_did_not_see() -> None:
    """Classes of 90, 40 and 20 texts: the mean of F1 over the classes is not that over the texts."""
    vectors, _ = clusters(150, 3, seed=4)
    labels = np.random.default_rng(4).permutation(np.repeat([0, 1, 2], [90, 40, 20]))
    vectors[:, 0] += 2 * labels
    config = TopicTrial(c=0.7, folds=4, seed=2)
    reports = cross_validate(config, vectors=vectors, texts=[""] * 150, labels=labels)
    folds = StratifiedKFold(4, shuffle=True, random_state=2).split(vectors, labels)
    for report, (train, held_out) in zip(reports, folds, strict=True):
        model = fit(vectors[train], labels[train], 3, c=0.7)
        predicted = model.probabilities(vectors[held_out]).argmax(axis=1)
        true = labels[held_out]
        assert report.metrics["fold/accuracy"] == pytest.approx((predicted == true).mean())
        f1 = []
        for label in range(3):
            both = ((predicted == label) & (true == label)).sum()
            f1.append(2 * both / ((predicted == label).sum() + (true == label).sum()))
        assert report.metrics["fold/macro_f1"] == pytest.approx(np.mean(f1))


def test_random_labels_are_not_learnt() -> None:
    """A leak between folds would show as an accuracy above chance."""
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(400, 5)).astype(np.float32), rng.integers(0, 2, 400)
    texts = [" ".join(rng.choice(list("abcdefgh"), 6)) for _ in range(400)]
    for features in ("embeddings", "tfidf"):
        config = TopicTrial(features, c=1.0)
        *_, last = cross_validate(config, vectors=vectors, texts=texts, labels=labels)
        assert 0.4 < last.metrics["val/accuracy"] < 0.6


def test_every_fit_is_of_the_trial_s_own_features_c_and_classifier(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def recorded(*arguments: object) -> object:
        asked.append(arguments)
        return make_classifier(*arguments)

    monkeypatch.setattr(classifier, "make_classifier", recorded)
    vectors, labels = clusters(90, 3)
    trial = TopicTrial(c=0.2, folds=3, classifier="linear-svm", train_size=60)
    unseen = (vectors[:9], [""] * 9)
    shared = {"vectors": vectors, "texts": [""] * 90, "labels": labels}
    list(cross_validate(trial, **shared, test_inputs=unseen, test_labels=labels[:9]))
    assert asked == [("embeddings", 0.2, "linear-svm")] * 4  # three folds and all of them
    texts = ["red blue", "blue sky", "old car", "new car", "a red sky", "the old car"] * 5
    train = LabeledTexts(texts, np.array([0, 0, 1, 1, 0, 1] * 5))
    found = baseline_probabilities("tfidf", train, texts[:4], 0.2, "linear-svm")
    assert asked[4:] == [("tfidf", 0.2, "linear-svm")]
    other = baseline_probabilities("tfidf", train, texts[:4], 0.2)
    assert np.abs(found - other).max() > 0.01


def test_tfidf_learns_words() -> None:
    texts = ["the cup final", "a cup win", "stocks fall", "the stocks rise"] * 5
    train = LabeledTexts(texts, np.array([0, 0, 1, 1] * 5))
    found = baseline_probabilities("tfidf", train, ["cup", "stocks today", ""], c=10.0)
    assert found[0, 0] > 0.8 and found[1, 1] > 0.8
    assert np.allclose(found.sum(axis=1), 1)
    shy = baseline_probabilities("tfidf", train, ["cup", "stocks today"], c=0.01)
    assert np.all(np.abs(shy - 0.5) < 0.1)


def test_character_features_see_inside_words() -> None:
    """No word of the new texts is known; their endings are."""
    stems = ["bak", "run", "jump", "read", "walk", "cook"]
    texts = [f"{stem}ing" for stem in stems] + [f"{stem}ism" for stem in stems]
    train = LabeledTexts(texts, np.repeat([0, 1], len(stems)))
    new = ["swimming", "tourism"]
    for features in ("tfidf_chars", "tfidf_both"):
        found = baseline_probabilities(features, train, new, c=100.0)
        assert found[0, 0] > 0.6 and found[1, 1] > 0.6, features
    pieces = make_classifier("tfidf_chars", 1.0)[0].fit(["ox eat"]).get_feature_names_out()
    padded = (" ox ", " eat ")
    assert set(pieces) == {
        word[i : i + n] for word in padded for n in (2, 3, 4, 5) for i in range(len(word) - n + 1)
    }
    words = baseline_probabilities("tfidf", train, new, c=100.0)
    np.testing.assert_allclose(words[0], words[1])
    both = make_classifier("tfidf_both", 1.0)[0].fit(texts)
    single = [make_classifier(f, 1.0)[0].fit(texts) for f in ("tfidf", "tfidf_chars")]
    assert len(both.get_feature_names_out()) == sum(len(v.vocabulary_) for v in single)


def test_pairs_of_words_separate_what_words_cannot() -> None:
    """Both classes have the same words; who comes first decides."""
    animals = ["dog", "cat", "cow", "pig"]
    pairs = [(a, b) for a in animals for b in animals if a < b] * 4
    texts = [f"{a} bites {b}" for a, b in pairs] + [f"{b} bites {a}" for a, b in pairs]
    train = LabeledTexts(texts, np.repeat([0, 1], len(pairs)))
    found = baseline_probabilities("tfidf", train, ["cat bites dog", "dog bites cat"], c=100.0)
    assert found[0, 0] > 0.7 and found[1, 1] > 0.7


def test_the_best_c_is_the_smaller_of_equals() -> None:
    table = pd.DataFrame(
        {
            "features": ["embeddings"] * 3 + ["tfidf"],
            "c": [3.0, 0.03, 0.3, 1.0],
            "val/accuracy": [0.9, 0.9, np.nan, 0.95],
        }
    )
    assert best_c(table, "embeddings") == 0.03
    assert best_c(table, "tfidf") == 1.0
    assert best_c(table[2:3], "embeddings") is None


def test_bad_options_are_refused() -> None:
    with pytest.raises(InputError, match="`c` 0 must be positive"):
        TopicTrial(c=0)
    with pytest.raises(InputError, match="`folds` 1"):
        TopicTrial(folds=1)
    with pytest.raises(InputError, match="`folds` 5: class 'Sports' has 3 training texts; use 3"):
        check_folds(np.array([0] * 9 + [1] * 3), CLASSES[:2], 5)


def test_figures_show_what_they_are_given() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2])
    predicted = np.array([0, 0, 1, 1, 2, 0])
    evaluation = topic_evaluation.evaluate(labels, np.eye(3)[predicted], CLASSES, seed=0)
    figure = topic_figures.confusion_figure(evaluation, CLASSES)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[0] == "2\n66.7%" and texts[4] == "1\n100.0%" and texts[7] == "0\n0.0%"
    axes = figure.axes[0]
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert cells[1, 0] == "1\n33.3%" and cells[0, 1] == "0\n0.0%"  # across, then down
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")
    np.testing.assert_allclose(axes.images[0].get_array()[0], [2 / 3, 1 / 3, 0])
    vectors = {"train": np.random.default_rng(0).normal(size=(30, 5)), "test": np.eye(8, 5)}
    chosen, positions = topic_figures.map_texts(vectors, 20, seed=1)
    assert positions["train"].shape == (20, 2) and positions["test"].shape == (8, 2)
    assert len(set(chosen["train"].tolist())) == 20
    colours = {name: rows % 3 for name, rows in chosen.items()}
    figure = topic_figures.map_figure(positions, colours, CLASSES)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(CLASSES)


def test_texts_that_are_alike_lie_together_on_the_map() -> None:
    """Three far clusters, in other shares in each part; the draws and the map follow the seed."""
    rng = np.random.default_rng(0)
    groups = {
        "train": rng.integers(0, 3, 60),
        "test": rng.permutation(np.repeat([0, 1, 2], [2, 5, 13])),
    }
    vectors = {name: rng.normal(size=(len(g), 8)) + 30 * np.eye(8)[g] for name, g in groups.items()}
    chosen, positions = topic_figures.map_texts(vectors, 40, seed=3)
    group = np.concatenate([groups[name][rows] for name, rows in chosen.items()])
    places = np.concatenate(list(positions.values()))
    distances = np.linalg.norm(places[:, None] - places, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (group[distances.argmin(axis=1)] == group).all()
    again = topic_figures.map_texts(vectors, 40, seed=3)
    for name, rows in chosen.items():
        np.testing.assert_array_equal(rows, again[0][name])
        np.testing.assert_array_equal(positions[name], again[1][name])
    assert set(topic_figures.map_texts(vectors, 40, seed=4)[0]["train"]) != set(chosen["train"])


def test_the_choice_of_c_is_drawn_with_each_trial_s_own_folds() -> None:
    rng = np.random.default_rng(9)
    c, folds = [3.0, 0.1, 1.0], rng.uniform(0.3, 0.9, (3, 4))
    table = pd.DataFrame(
        {"trial": [5, 6, 7], "features": "tfidf", "c": c, "val/accuracy": folds.mean(1)}
    )
    history = pd.DataFrame({"trial": np.repeat([5, 6, 7], 4), "fold/accuracy": folds.ravel()})
    axes = topic_figures.choice_figure(history, table).axes[0]
    (line,) = [line for line in axes.get_lines() if len(line.get_xdata()) == 3][:1]
    order = [1, 2, 0]
    assert line.get_xdata().tolist() == [0.1, 1.0, 3.0]
    assert line.get_ydata() == pytest.approx(100 * folds.mean(axis=1)[order])
    half = stats.t.ppf(0.975, 3) * folds.std(axis=1, ddof=1) / 2
    ends = np.array([part[:, 1] for part in axes.collections[0].get_segments()])
    expected = [(max(0, m - h), min(1, m + h)) for m, h in zip(folds.mean(1), half, strict=True)]
    np.testing.assert_allclose(ends, 100 * np.array(expected)[order], rtol=1e-6)


def test_the_baseline_s_inputs_are_tf_idf_written_out() -> None:
    """Words and pairs of words, 1 + log(count) times log((1 + n) / (1 + texts with it)) + 1, in rows
    of length 1."""
    rng = np.random.default_rng(5)
    texts = [" ".join(rng.choice(list("abcdef"), rng.integers(4, 15))) for _ in range(12)]
    vectorizer = make_classifier("tfidf", 1.0)[0]
    found = vectorizer.fit_transform(texts).toarray()
    counts = []
    for text in texts:
        words = text.split()
        counts.append(Counter(words + [f"{a} {b}" for a, b in pairwise(words)]))
    terms = sorted({term for count in counts for term in count})
    assert list(vectorizer.get_feature_names_out()) == terms
    assert max(max(count.values()) for count in counts) > 3  # so that the logarithm is seen
    for row, count in zip(found, counts, strict=True):
        expected = np.zeros(len(terms))
        for k, term in enumerate(terms):
            if count[term]:
                texts_with_it = sum(term in other for other in counts)
                rarity = math.log((1 + len(texts)) / (1 + texts_with_it)) + 1
                expected[k] = (1 + math.log(count[term])) * rarity
        np.testing.assert_allclose(row, expected / np.linalg.norm(expected), rtol=1e-5)


def test_the_seed_decides_which_texts_are_held_out_together() -> None:
    rng = np.random.default_rng(2)
    vectors, labels = rng.normal(size=(60, 4)).astype(np.float32), np.arange(60) % 2

    def accuracies(seed: int) -> list[float]:
        trial = TopicTrial(folds=3, seed=seed)
        reports = cross_validate(trial, vectors=vectors, texts=[""] * 60, labels=labels)
        return [value for report in reports for value in report.metrics.values()]

    assert accuracies(1) == accuracies(1)
    assert accuracies(1) != accuracies(2) != accuracies(3)
