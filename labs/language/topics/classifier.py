"""One-vs-rest logistic regression on frozen embeddings, chosen by cross-validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import StratifiedKFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from labs.language.embeddings.encoders import Encoder
from labs.language.embeddings.sentence_form import Pooling, SentenceForm
from labs.language.topics.texts import LabeledTexts
from labs.runtime.checkpoints import load_checkpoint, save_checkpoint
from labs.runtime.errors import InputError
from labs.runtime.reports import Checkpoint, Report

Features = Literal["embeddings", "tfidf"]
METRIC = "val/accuracy"
KIND = "language.topics"


@dataclass(frozen=True)
class TopicTrial:
    """Cross-validate one classifier."""

    features: Features = "embeddings"
    """embeddings, or tfidf, the baseline that needs no encoder."""

    c: float = 0.03
    """Inverse strength of the logistic regression's L2 penalty."""

    folds: int = 5
    """Parts of the training set; each is the validation set once."""

    seed: int = 1
    """Of the folds; all trials of a run have the same."""

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


def make_classifier(features: Features, c: float) -> Pipeline:
    """The untrained scikit-learn pipeline.

    Embeddings are scaled to unit variance; TF-IDF rows (words and pairs of words, sublinear counts)
    have unit length already. Words that occur once are kept: on few texts they are most of what there
    is to learn from.
    """
    logistic = OneVsRestClassifier(LogisticRegression(C=c, max_iter=2000))
    if features == "embeddings":
        return make_pipeline(StandardScaler(), logistic)
    words = TfidfVectorizer(
        token_pattern=r"(?u)\b\w+\b",  # single letters are words too
        sublinear_tf=True,
        ngram_range=(1, 2),
        dtype=np.float32,
    )
    return make_pipeline(words, logistic)


def cross_validate(
    config: TopicTrial,
    resume: Checkpoint | None = None,
    *,
    vectors: np.ndarray,
    texts: Sequence[str],
    labels: np.ndarray,
) -> Iterator[Report]:
    """Fit on all folds but one, in turn; the step is the number of folds done.

    Each report has the fold's ``fold/accuracy`` and ``fold/macro_f1``; the last one also their
    means over the folds, ``val/accuracy`` and ``val/macro_f1``.

    Args:
        vectors: float32 ``[n, width]``.
        texts: the same ``n`` texts.
        labels: int64 ``[n]``.
    """
    scores: list[tuple[float, float]] = [tuple(pair) for pair in resume["scores"]] if resume else []
    inputs = vectors if config.features == "embeddings" else np.array(texts, dtype=object)
    splitter = StratifiedKFold(config.folds, shuffle=True, random_state=config.seed)
    for fold, (train, held_out) in enumerate(splitter.split(labels, labels)):
        if fold < len(scores):
            continue
        classifier = make_classifier(config.features, config.c).fit(inputs[train], labels[train])
        predicted = classifier.predict(inputs[held_out])
        accuracy = float(accuracy_score(labels[held_out], predicted))
        macro_f1 = float(f1_score(labels[held_out], predicted, average="macro", zero_division=0.0))
        scores.append((accuracy, macro_f1))
        metrics = {"fold/accuracy": accuracy, "fold/macro_f1": macro_f1}
        if len(scores) == config.folds:
            means = np.mean(scores, axis=0)
            metrics |= {METRIC: float(means[0]), "val/macro_f1": float(means[1])}
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
    normalise: bool = False  # of models that older versions wrote

    @property
    def form(self) -> SentenceForm:
        """What followed the transformer when the embeddings were made."""
        return SentenceForm(self.pooling, self.normalise)

    def probabilities(self, vectors: np.ndarray) -> np.ndarray:
        """Float64 ``[n, classes]`` for embeddings ``[n, width]``; rows sum to one.

        Each class has its own logistic regression against the rest; their probabilities are
        divided by their sum, as scikit-learn's one-vs-rest does.
        """
        scores = ((vectors - self.mean) / self.scale) @ self.weights.T + self.biases
        shares = 1 / (1 + np.exp(-scores))
        if shares.shape[1] == 1:
            return np.hstack([1 - shares, shares])
        return shares / shares.sum(axis=1, keepdims=True)

    def save(self, path: str | Path) -> None:
        """Write a checkpoint of plain tensors."""
        state: dict[str, Any] = {"kind": KIND, **vars(self), "classes": list(self.classes)}
        for name in _ARRAYS:
            state[name] = torch.from_numpy(np.ascontiguousarray(state[name]))
        save_checkpoint(path, state)


_ARRAYS = ("mean", "scale", "weights", "biases")


def load_topic_model(path: str | Path) -> TopicModel:
    """Read what :meth:`TopicModel.save` wrote; no code in the file is run.

    Raises:
        InputError: the file is missing, damaged, or of another kind.
    """
    state = load_checkpoint(path, kind=KIND)
    del state["kind"]
    try:
        arrays = {name: state[name].numpy() for name in _ARRAYS}
        return TopicModel(**{**state, **arrays, "classes": tuple(state["classes"])})
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"checkpoint {path} is incomplete, it has no {error}") from None


def fit_topic_model(
    vectors: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    c: float,
    encoder: Encoder,
    arguments: Mapping[str, Any],
) -> TopicModel:
    """Train on all texts.

    Args:
        vectors: float32 ``[n, width]``.
        labels: int64 ``[n]``.
        encoder, arguments: of the embeddings, see ``labs.language.embeddings.vectors.embedder_arguments``.
    """
    classifier = make_classifier("embeddings", c).fit(vectors, labels)
    scaler, logistic = classifier[0], classifier[1]
    return TopicModel(
        classes=tuple(classes),
        mean=scaler.mean_.astype(np.float64),
        scale=scaler.scale_.astype(np.float64),
        weights=np.vstack([part.coef_ for part in logistic.estimators_]).astype(np.float64),
        biases=np.concatenate([part.intercept_ for part in logistic.estimators_]).astype(float),
        c=c,
        encoder=encoder.name,
        encoder_hash=encoder.weights_hash,
        pooling=arguments["pooling"],
        max_length=arguments["max_length"],
        normalise=arguments["normalise"],
    )


def tfidf_probabilities(train: LabeledTexts, texts: Sequence[str], c: float) -> np.ndarray:
    """The baseline, trained on ``train``: float ``[n, classes]`` for ``texts``."""
    classifier = make_classifier("tfidf", c).fit(train.texts, train.labels)
    return classifier.predict_proba(texts)
