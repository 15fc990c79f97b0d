"""A classifier on frozen embeddings or on TF-IDF, its penalty chosen by cross-validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from labs.language.embeddings.sentence_form import Pooling, SentenceForm
from labs.language.embeddings.vectors import Plan
from labs.language.topics.estimators import (
    dump_estimator,
    linear_arrays,
    load_estimator,
    make_estimator,
)
from labs.language.topics.texts import LabeledTexts
from labs.runtime.checkpoints import load_checkpoint, save_checkpoint
from labs.runtime.errors import InputError
from labs.runtime.reports import Checkpoint, Report

Baseline = Literal["tfidf", "tfidf_chars", "tfidf_both"]
Features = Literal["embeddings", "tfidf", "tfidf_chars", "tfidf_both"]
METRIC = "val/accuracy"
TEST_METRIC = "test/accuracy"
KIND = "language.topics"


@dataclass(frozen=True)
class TopicTrial:
    """Cross-validate one classifier."""

    features: Features = "embeddings"
    """embeddings, or a baseline that needs no encoder: tfidf (words), tfidf_chars, tfidf_both."""

    c: float = 0.03
    """Inverse strength of the logistic regression's L2 penalty."""

    folds: int = 5
    """Parts of the training set; each is the validation set once."""

    seed: int = 1
    """Of the folds; all trials of a run have the same."""

    classifier: str = "logistic"
    """logistic, linear-svm or module:factory."""

    train_size: int | None = None
    """A point of the learning curve: so many of the training texts; then the test texts are classified."""

    draw: int = 0
    """Which texts these are."""

    def __post_init__(self) -> None:
        if not self.c > 0:
            raise InputError(f"`c` {self.c} must be positive, for instance 0.03")
        if self.folds < 2:
            raise InputError(f"`folds` {self.folds} must be at least 2, for instance 5")


def check_folds(labels: np.ndarray, classes: Sequence[str], folds: int) -> None:
    """Refuse what cannot be cross-validated.

    Raises:
        InputError: a class has fewer texts than there are folds.
    """
    counts = np.bincount(labels, minlength=len(classes))
    if counts.min() < folds:
        raise InputError(
            f"`folds` {folds}: class {classes[int(counts.argmin())]!r} has {counts.min()} training"
            f" texts; use {max(2, int(counts.min()))} folds or more texts"
        )


def make_classifier(features: Features, c: float, classifier: str = "logistic") -> Pipeline:
    """The untrained scikit-learn pipeline.

    Embeddings are scaled to unit variance; TF-IDF rows have unit length already: of words and pairs of
    words, of two to five characters within words, or of both, with sublinear counts. What occurs once is
    kept: of few texts it is most of what there is to learn from.

    Args:
        classifier: see :func:`labs.language.topics.estimators.make_estimator`.
    """
    estimator = make_estimator(classifier, c)
    if features == "embeddings":
        return make_pipeline(StandardScaler(), estimator)
    common = {"sublinear_tf": True, "dtype": np.float32}
    words = TfidfVectorizer(
        token_pattern=r"(?u)\b\w+\b",  # single letters are words too
        ngram_range=(1, 2),
        **common,
    )
    characters = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), **common)
    if features == "tfidf":
        return make_pipeline(words, estimator)
    if features == "tfidf_chars":
        return make_pipeline(characters, estimator)
    return make_pipeline(FeatureUnion([("words", words), ("characters", characters)]), estimator)


def draw_subset(labels: np.ndarray, size: int, seed: int, draw: int) -> np.ndarray:
    """Numbers of ``size`` texts, int64, with the shares of the classes; another ``draw``, other texts."""
    chosen, _ = train_test_split(
        np.arange(len(labels)),
        train_size=size,
        stratify=labels,
        random_state=np.random.RandomState([seed, draw]),
    )
    return np.sort(chosen)


def cross_validate(
    config: TopicTrial,
    resume: Checkpoint | None = None,
    *,
    vectors: np.ndarray,
    texts: Sequence[str],
    labels: np.ndarray,
    test_inputs: tuple[np.ndarray, Sequence[str]] | None = None,
    test_labels: np.ndarray | None = None,
) -> Iterator[Report]:  # the arrays of the two sets
    """Fit on all folds but one, in turn; the step is the number of folds done.

    Each report has the fold's ``fold/accuracy`` and ``fold/macro_f1``; the last one also their
    means over the folds, ``val/accuracy`` and ``val/macro_f1``. A point of a learning curve has
    ``test/accuracy`` too, of a classifier that is fitted on all of its training texts.

    Args:
        vectors: float32 ``[n, width]``.
        texts: the same ``n`` texts.
        labels: int64 ``[n]``.
        test_inputs, test_labels: vectors and texts of the test set, for a learning curve.
    """
    scores: list[tuple[float, float]] = [tuple(pair) for pair in resume["scores"]] if resume else []
    inputs = vectors if config.features == "embeddings" else np.array(texts, dtype=object)
    if config.train_size is not None:
        rows = draw_subset(labels, config.train_size, config.seed, config.draw)
        inputs, labels = inputs[rows], labels[rows]
    splitter = StratifiedKFold(config.folds, shuffle=True, random_state=config.seed)
    for fold, (train, held_out) in enumerate(splitter.split(labels, labels)):
        if fold < len(scores):
            continue
        classifier = make_classifier(config.features, config.c, config.classifier)
        predicted = classifier.fit(inputs[train], labels[train]).predict(inputs[held_out])
        accuracy = float(accuracy_score(labels[held_out], predicted))
        macro_f1 = float(f1_score(labels[held_out], predicted, average="macro", zero_division=0.0))
        scores.append((accuracy, macro_f1))
        metrics = {"fold/accuracy": accuracy, "fold/macro_f1": macro_f1}
        if len(scores) == config.folds:
            means = np.mean(scores, axis=0)
            metrics |= {METRIC: float(means[0]), "val/macro_f1": float(means[1])}
            if config.train_size is not None and test_inputs is not None:
                classifier = make_classifier(config.features, config.c, config.classifier)
                unseen = test_inputs[0 if config.features == "embeddings" else 1]
                right = classifier.fit(inputs, labels).predict(unseen) == test_labels
                metrics[TEST_METRIC] = float(np.mean(right))
        state = {"kind": f"{KIND}.cross_validation", "scores": list(scores)}
        yield Report(fold + 1, metrics, checkpoint=state.copy)


def best_c(table: pd.DataFrame, features: Features) -> float | None:
    """The ``c`` of the best finished trial; the smaller of equals, which generalises more safely.

    Args:
        table: ``GridResult.table`` of ``cross_validate``.
    """
    if METRIC not in table:
        return None
    trials = table[(table["features"] == features) & table[METRIC].notna()]
    if "train_size" in trials:  # not the points of a learning curve
        trials = trials[trials["train_size"].isna()]
    if trials.empty:
        return None
    return float(trials.sort_values([METRIC, "c"], ascending=[False, True])["c"].iloc[0])


@dataclass(frozen=True)
class TopicModel:
    """A trained classifier as plain arrays, with what turns a text into its input.

    Attributes:
        classes: their names.
        mean, scale: float64 ``[width]``, of the standardisation.
        weights: float64 ``[classes, width]``; of two classes only the second has a row.
        biases: float64 ``[classes]`` (or ``[1]``).
        c: of the logistic regression.
        encoder: name of the encoder.
        encoder_hash: hash of its weights.
        pooling, max_length, normalise: how its embeddings were made.
        classifier: what was trained, ``logistic``, ``linear-svm`` or ``module:factory``.
        estimator: a trained estimator of a user's own (with the standardisation), in whose place the
            arrays are empty; else ``None``.
    """

    classes: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    weights: np.ndarray
    biases: np.ndarray
    c: float
    encoder: str
    encoder_hash: str
    pooling: Pooling
    max_length: int
    normalise: bool = False  # this and what follows are not in the models of older versions
    classifier: str = "logistic"
    estimator: Any = None

    @property
    def form(self) -> SentenceForm:
        """What followed the transformer when the embeddings were made."""
        return SentenceForm(self.pooling, self.normalise)

    def probabilities(self, vectors: np.ndarray) -> np.ndarray:
        """Float64 ``[n, classes]`` for embeddings ``[n, width]``; rows sum to one.

        Each class has its own sigmoid of a linear score against the rest; their probabilities are
        divided by their sum, as scikit-learn's one-vs-rest does.
        """
        if self.estimator is not None:
            return np.asarray(self.estimator.predict_proba(vectors), dtype=np.float64)
        scores = ((vectors - self.mean) / self.scale) @ self.weights.T + self.biases
        shares = 1 / (1 + np.exp(-scores))
        if shares.shape[1] == 1:
            return np.hstack([1 - shares, shares])
        return shares / shares.sum(axis=1, keepdims=True)

    def save(self, path: str | Path) -> None:
        """Write a checkpoint of plain tensors; an estimator is in it as skops writes it.

        Raises:
            InputError: the estimator cannot be written.
        """
        state: dict[str, Any] = {"kind": KIND, **vars(self), "classes": list(self.classes)}
        for name in _ARRAYS:
            state[name] = torch.from_numpy(np.ascontiguousarray(state[name]))
        if self.estimator is not None:
            content = bytearray(dump_estimator(self.estimator, self.classifier))
            state["estimator"] = torch.frombuffer(content, dtype=torch.uint8)
        save_checkpoint(path, state)


_ARRAYS = ("mean", "scale", "weights", "biases")


def load_topic_model(path: str | Path) -> TopicModel:
    """Read what :meth:`TopicModel.save` wrote; no code in the file is run.

    An estimator of a user's own is loaded where it is made of types that skops knows as safe.

    Raises:
        InputError: the file is missing, damaged, or of another kind.
    """
    state = load_checkpoint(path, kind=KIND)
    del state["kind"]
    try:
        arrays = {name: state[name].numpy() for name in _ARRAYS}
        if state.get("estimator") is not None:
            content = state["estimator"].numpy().tobytes()
            state["estimator"] = load_estimator(content, str(path))
        return TopicModel(**{**state, **arrays, "classes": tuple(state["classes"])})
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"checkpoint {path} is incomplete, it has no {error}") from None


def fit_topic_model(
    vectors: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    c: float,
    planned: Plan,
    classifier: str = "logistic",
) -> TopicModel:
    """Train on all texts.

    Args:
        vectors: float32 ``[n, width]``.
        labels: int64 ``[n]``.
        planned: how the vectors were made.
    """
    encoder = planned.encoder
    pipeline = make_classifier("embeddings", c, classifier).fit(vectors, labels)
    found, nothing = linear_arrays(pipeline[1]), np.empty(0)
    return TopicModel(
        classes=tuple(classes),
        mean=nothing if found is None else pipeline[0].mean_.astype(np.float64),
        scale=nothing if found is None else pipeline[0].scale_.astype(np.float64),
        weights=nothing if found is None else found[0],
        biases=nothing if found is None else found[1],
        c=c,
        encoder=encoder.name,
        encoder_hash=encoder.weights_hash,
        pooling=encoder.form.pooling,
        max_length=planned.options.max_length,
        normalise=encoder.form.normalise,
        classifier=classifier,
        estimator=pipeline if found is None else None,
    )


def baseline_probabilities(
    features: Baseline,
    train: LabeledTexts,
    texts: Sequence[str],
    c: float,
    classifier: str = "logistic",
) -> np.ndarray:
    """The baseline, trained on ``train``: float ``[n, classes]`` for ``texts``."""
    pipeline = make_classifier(features, c, classifier).fit(train.texts, train.labels)
    return pipeline.predict_proba(texts)
