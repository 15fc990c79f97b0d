"""What the study concludes from its trials: the choice of C, the verdict, and classification again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tiny_bert import make_tiny_bert

import labs
from labs.language.embeddings.embedder import EmbeddingOptions
from labs.language.embeddings.encoders import resolve_encoder
from labs.language.embeddings.vectors import Embeddings, embed, plan
from labs.language.topics.classifier import TopicTrial, fit_topic_model
from labs.language.topics.study import _verdict, classify, edge_warning, shared_data
from labs.language.topics.texts import LabeledTexts, TextCorpus
from labs.runtime.options import RuntimeOptions


def test_a_best_c_at_the_edge_of_its_grid_is_reported() -> None:
    """Each kind of features has a grid of its own."""
    table = pd.DataFrame(
        {
            "features": ["embeddings"] * 3 + ["tfidf"] * 3 + ["tfidf_chars"],
            "c": [0.1, 1.0, 10.0, 1.0, 10.0, 30.0, 300.0],
            "val/accuracy": [0.7, 0.9, 0.8, 0.6, 0.7, 0.8, 0.5],
        }
    )
    assert edge_warning(table, "embeddings") == ""
    assert "TF-IDF, 30, is the largest one tried: a larger one may be better" in edge_warning(
        table, "tfidf"
    )
    tied = table.assign(**{"val/accuracy": 0.5})
    assert "Embeddings, 0.1, is the smallest" in edge_warning(tied, "embeddings")
    assert "TF-IDF, 1, is the smallest" in edge_warning(tied, "tfidf")
    assert edge_warning(table, "tfidf_chars") == ""  # of one value there is no edge


def answers(labels: np.ndarray, wrong: slice) -> np.ndarray:
    """Probabilities of two classes: sure, and wrong on some texts."""
    predicted = labels.copy()
    predicted[wrong] = 1 - predicted[wrong]
    return np.eye(2)[predicted]


@pytest.mark.parametrize(
    ("ours", "theirs", "sentence"),
    [
        (slice(0, 10), slice(0, 60), "The embeddings beat TF-IDF of characters by"),
        (
            slice(0, 60),
            slice(0, 10),
            "TF-IDF of characters beats the embeddings by 25.0 [19.0, 31.0] points",
        ),
        (
            slice(0, 20),
            slice(19, 41),
            "The embeddings and TF-IDF of characters cannot be told apart",
        ),
        (
            slice(19, 41),
            slice(0, 20),
            "The embeddings and TF-IDF of characters cannot be told apart",
        ),
    ],
)
def test_the_verdict_is_about_the_baseline_that_cross_validation_prefers(
    ours: slice, theirs: slice, sentence: str
) -> None:
    """Neither the test texts nor the points of a learning curve choose it."""
    rows = [
        # (features, train_size, val/accuracy)
        ("embeddings", np.nan, 0.8),
        ("tfidf", np.nan, 0.60),
        ("tfidf_chars", np.nan, 0.55),
        ("tfidf_chars", np.nan, 0.70),
        ("tfidf", 50, 0.95),
    ]
    table = pd.DataFrame(rows, columns=["features", "train_size", "val/accuracy"])
    labels = np.random.default_rng(0).integers(0, 2, 200)
    probabilities = {
        "embeddings": answers(labels, ours),
        "tfidf": answers(labels, slice(0, 30)),
        "tfidf_chars": answers(labels, theirs),
    }
    assert _verdict(labels, probabilities, table, 1).startswith(sentence)
    del probabilities["tfidf"]
    assert _verdict(labels, probabilities, table, 1).startswith(sentence)
    assert _verdict(labels, {"embeddings": probabilities["embeddings"]}, table, 1) == ""


def test_a_learning_curve_is_tested_on_the_test_texts() -> None:
    rng = np.random.default_rng(1)
    vectors = {"train": rng.normal(size=(6, 3)), "test": rng.normal(size=(4, 3))}
    none = np.zeros(0)
    embeddings = {name: Embeddings(found, none, none, 0.0) for name, found in vectors.items()}
    corpus = TextCorpus(
        "x", ("a", "b"),
        LabeledTexts([f"train {i}" for i in range(6)], np.arange(6) % 2),
        LabeledTexts([f"test {i}" for i in range(4)], np.array([1, 0, 0, 1])),
    )  # fmt: skip
    shared = shared_data(corpus, embeddings, [TopicTrial(), TopicTrial(train_size=4)])
    assert shared["vectors"] is vectors["train"] and shared["texts"] is corpus.train.texts
    assert shared["labels"] is corpus.train.labels
    assert shared["test_inputs"][0] is vectors["test"]
    assert shared["test_inputs"][1] is corpus.test.texts
    assert shared["test_labels"] is corpus.test.labels
    assert set(shared_data(corpus, embeddings, [TopicTrial()])) == {"vectors", "texts", "labels"}


def test_new_texts_are_read_as_far_as_those_the_model_was_trained_on(tmp_path: Path) -> None:
    """Ten tokens with the two special ones, and no further, whatever the options say."""
    encoder, _ = resolve_encoder(str(make_tiny_bert(tmp_path)))
    options = EmbeddingOptions(cache_dir=None, max_length=10, precision="float32", backend="torch")
    planned = plan(encoder, options, [{"CPU": 1.0, "GPU": 0.0}])
    texts = ["sun moon", "bread salt", "moon moon sun", "salt king bread"]
    (found,) = embed([texts], planned, in_process=True, progress=False)
    model = fit_topic_model(found.vectors, np.array([0, 1, 0, 1]), ("sky", "table"), 1.0, planned)
    model.save(tmp_path / "model.pt")
    short = "sun bread salt moon king wind river stone"
    texts = [short, f"{short} {'bread ' * 40}", "sun bread"]
    classifier = labs.load_topic_model(tmp_path)
    table = classify(
        model,
        texts,
        EmbeddingOptions(cache_dir=None, max_length=60, backend="torch"),
        RuntimeOptions(),
    )
    columns = table[["sky", "table"]]
    assert table["class"].tolist() == columns.idxmax(axis=1).tolist()
    assert table["class"].tolist() == classifier.predict(texts)
    for probabilities in (classifier.predict_proba(texts), columns.to_numpy()):
        np.testing.assert_allclose(probabilities[1], probabilities[0], atol=1e-3)
        assert np.abs(probabilities[2] - probabilities[0]).max() > 0.02
