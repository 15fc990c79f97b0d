"""How good a classifier is on the test set, with intervals, per class, and where it errs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from labs.bootstrap import bootstrap_interval
from labs.statistics import Interval, proportion_interval

METRICS = ("accuracy", "macro_precision", "macro_recall", "macro_f1")


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts int64 ``[classes, classes]``: rows are the true classes, columns the predicted."""
    pairs = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return pairs.reshape(classes, classes)


def class_scores(confusion: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 of each class, float64 ``[classes]``.

    What has nothing to divide by is 0, as in scikit-learn: the precision of a class that is never
    predicted, the recall of one that never occurs.
    """
    hits = np.diag(confusion).astype(np.float64)
    predicted, occurring = confusion.sum(axis=0), confusion.sum(axis=1)
    precision = hits / np.maximum(predicted, 1)
    recall = hits / np.maximum(occurring, 1)
    f1 = 2 * hits / np.maximum(predicted + occurring, 1)
    return {"precision": precision, "recall": recall, "f1": f1}


def scores(confusion: np.ndarray) -> dict[str, float]:
    """Accuracy, and the unweighted means over the classes (``METRICS``)."""
    per_class = class_scores(confusion)
    return {
        "accuracy": float(np.trace(confusion) / confusion.sum()),
        **{f"macro_{name}": float(values.mean()) for name, values in per_class.items()},
    }


@dataclass(frozen=True)
class Evaluation:
    """A classifier on the test set.

    Attributes:
        metrics: each of ``METRICS`` with its 95% interval over the texts: Wilson's for the accuracy, the
            percentile bootstrap's for the others, or Wilson's where no resampled text could change them
            (all are right, or all wrong).
        confusion: int64 ``[classes, classes]``, rows are the true classes.
        per_class: one row per class: ``class``, ``precision``, ``recall``, ``f1``, ``texts``.
    """

    metrics: Mapping[str, Interval]
    confusion: np.ndarray
    per_class: pd.DataFrame


def evaluate(
    labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str], seed: int
) -> Evaluation:
    """Compare the likeliest classes with the true ones.

    Args:
        labels: int64 ``[n]``.
        probabilities: ``[n, classes]``.
        seed: of the bootstrap.
    """
    predicted = probabilities.argmax(axis=1)

    def statistic(name: str) -> Callable[[np.ndarray], float]:
        """The metric as a function of the row numbers that a bootstrap sample has."""

        def of_sample(rows: np.ndarray) -> float:
            return scores(confusion_matrix(labels[rows], predicted[rows], len(classes)))[name]

        return of_sample

    hits = proportion_interval(int((predicted == labels).sum()), len(labels))
    metrics = {"accuracy": hits}
    for name in METRICS[1:]:
        found = bootstrap_interval(statistic(name), len(labels), seed=seed)
        metrics[name] = found if found.low < found.high else hits
    confusion = confusion_matrix(labels, predicted, len(classes))
    per_class = pd.DataFrame({"class": classes, **class_scores(confusion)})
    per_class["texts"] = confusion.sum(axis=1)
    return Evaluation(metrics, confusion, per_class)


def accuracy_gain(
    labels: np.ndarray, probabilities: np.ndarray, baseline: np.ndarray, seed: int
) -> Interval:
    """Accuracy minus the baseline's on the same texts, with a paired bootstrap interval."""
    gain = (probabilities.argmax(axis=1) == labels).astype(float)
    gain -= baseline.argmax(axis=1) == labels
    return bootstrap_interval(lambda chosen: float(gain[chosen].mean()), len(gain), seed=seed)


def comparison(evaluations: Mapping[str, Evaluation]) -> pd.DataFrame:
    """One row per classifier: ``features``, and each metric with its ``_low`` and ``_high``."""
    rows = []
    for name, evaluation in evaluations.items():
        row: dict[str, float | str] = {"features": name}
        for metric, interval in evaluation.metrics.items():
            row |= {
                metric: interval.estimate,
                f"{metric}_low": interval.low,
                f"{metric}_high": interval.high,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def confident_mistakes(
    texts: Sequence[str],
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    count: int = 20,
) -> pd.DataFrame:
    """The errors that the classifier was most certain of, the most certain first.

    Columns: ``true``, ``predicted``, ``probability`` and ``text``.
    """
    predicted = probabilities.argmax(axis=1)
    certainty = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-certainty[wrong], kind="stable")][:count]
    return pd.DataFrame(
        {
            "true": [classes[labels[i]] for i in worst],
            "predicted": [classes[predicted[i]] for i in worst],
            "probability": certainty[worst],
            "text": [texts[i] for i in worst],
        }
    )
