"""Classifiers: two linear ones that are kept as arrays, and any scikit-learn estimator of a user's own."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

from labs.language.hub import first_line
from labs.plugins import load_object
from labs.runtime.errors import InputError

BUILT_IN = ("logistic", "linear-svm")
PLAIN_PARTS = (
    "sklearn.calibration", "sklearn.ensemble", "sklearn.gaussian_process", "sklearn.metrics",
    "sklearn.model_selection", "sklearn.multiclass", "sklearn.neighbors", "sklearn.neural_network",
    "sklearn.tree", "sklearn.utils._bunch",
)  # fmt: skip
"""Where scikit-learn defines what its estimators are made of and skops leaves to its callers to trust: trees,
kernels, distances, optimizers. Functions are not among it: one may be called with what a file says."""
SCORES = tuple(
    f"sklearn.feature_selection._{place}"
    for place in (
        "univariate_selection.f_classif",
        "univariate_selection.chi2",
        "mutual_info.mutual_info_classif",
    )
)
"""Functions by which features are selected: they compute, and nothing else."""


def make_estimator(classifier: str, c: float) -> Any:
    """An untrained estimator.

    Args:
        classifier: ``logistic``, one-vs-rest logistic regressions with an L2 penalty; ``linear-svm``,
            one-vs-rest linear support vector machines whose scores become probabilities by Platt's
            sigmoid (Platt 1999), fitted on five folds; or ``module:factory``, which is called with ``c``.
        c: inverse strength of the penalty.

    Raises:
        InputError: there is no such classifier, or what the factory makes is none.
    """
    if classifier == "logistic":
        return OneVsRestClassifier(LogisticRegression(C=c, max_iter=2000))
    if classifier == "linear-svm":
        return CalibratedClassifierCV(LinearSVC(C=c, random_state=0, max_iter=5000), ensemble=False)
    if ":" not in classifier:
        raise InputError(
            f"`classifier` {classifier} is unknown: use {', '.join(BUILT_IN)}, or module:factory"
        )
    try:
        made = load_object(classifier, "classifier")(c)
    except InputError:
        raise
    except Exception as error:  # the user's own code
        raise InputError(
            f"`classifier` {classifier} was called with C = {c:g} and failed: {first_line(error)}"
            f" ({type(error).__name__})"
        ) from error
    for method in ("fit", "predict", "predict_proba", "get_params"):
        if not hasattr(made, method):
            raise InputError(
                f"`classifier` {classifier} gave {type(made).__name__}, which has no {method}: it must"
                " give a scikit-learn classifier with probabilities"
            )
    return made


def linear_arrays(estimator: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """Weights ``[classes, width]`` and biases ``[classes]`` (of two classes a single row).

    The probabilities are then ``sigmoid(x @ weights.T + biases)``, divided by their sum. Platt's sigmoid
    of a linear score is one of a linear score itself. ``None`` for an estimator of a user's own.
    """
    if isinstance(estimator, OneVsRestClassifier):
        parts = estimator.estimators_
        weights = np.vstack([part.coef_ for part in parts])
        return weights.astype(float), np.concatenate([p.intercept_ for p in parts]).astype(float)
    if isinstance(estimator, CalibratedClassifierCV):
        (fitted,) = estimator.calibrated_classifiers_
        slopes = np.array([sigmoid.a_ for sigmoid in fitted.calibrators])
        offsets = np.array([sigmoid.b_ for sigmoid in fitted.calibrators])
        svm = fitted.estimator
        return -slopes[:, None] * svm.coef_, -(slopes * svm.intercept_ + offsets)
    return None


def dump_estimator(estimator: Any, classifier: str) -> bytes:
    """A trained estimator of a user's own, written by skops: a file that holds no code.

    Raises:
        InputError: skops is not installed, or cannot write this estimator.
    """
    io = _skops(classifier)
    try:
        return io.dumps(estimator)
    except Exception as error:
        raise InputError(
            f"`classifier` {classifier} cannot be saved by skops: {first_line(error)}"
        ) from error


def load_estimator(content: bytes, path: str) -> Any:
    """What ``dump_estimator`` wrote. Only types that skops or ``is_plain`` know as safe are made.

    Raises:
        InputError: skops is not installed, the content is damaged, or it has other types.
    """
    io = _skops(path)
    try:
        unknown = io.get_untrusted_types(data=content)
    except Exception as error:
        raise InputError(f"{path} has a damaged classifier: {first_line(error)}") from None
    strange = sorted(name for name in unknown if not is_plain(name))
    if strange:
        raise InputError(
            f"{path} has a classifier with types that could run code: {', '.join(strange)}; they are"
            " not loaded"
        )
    return io.loads(content, trusted=unknown)


def is_plain(name: str) -> bool:
    """Whether a dotted name is a class that scikit-learn defines for its estimators, or one of ``SCORES``.

    A name that a module has only imported does not count: ``check_output`` of subprocess is one of those.
    """
    if name in SCORES:
        return True
    module, _, attribute = name.rpartition(".")
    if not any(module == part or module.startswith(f"{part}.") for part in PLAIN_PARTS):
        return False
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return False
    return isinstance(found, type) and found.__module__ == module


def check_can_be_saved(classifier: str) -> None:
    """Refuse a classifier that could not be kept before anything is computed.

    Raises:
        InputError: as for ``make_estimator``; skops is not installed; or it cannot write the classifier,
            or would not read it again.
    """
    made = make_estimator(classifier, 1.0)
    if classifier in BUILT_IN:
        return
    _skops(classifier)
    with contextlib.suppress(Exception):  # it may need other data than this
        made.fit(np.random.default_rng(0).normal(size=(12, 3)), np.arange(12) % 2)
    load_estimator(dump_estimator(made, classifier), f"`classifier` {classifier}")


def _skops(what: str) -> Any:
    try:
        from skops import io
    except ImportError:
        raise InputError(
            f"`classifier` {what}: skops keeps classifiers of your own, and it is not installed"
            " (pip install 'labs[classifiers]')"
        ) from None
    return io
