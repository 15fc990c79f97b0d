"""Other classifiers than the logistic regression, and how they are kept."""

from __future__ import annotations

import contextlib
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import clear_data_home
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.gaussian_process import GaussianProcessClassifier
from sklearn.gaussian_process.kernels import Matern, WhiteKernel
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.utils import all_estimators

from labs.language.embeddings.embedder import EmbeddingOptions
from labs.language.embeddings.encoders import Encoder
from labs.language.embeddings.sentence_form import SentenceForm
from labs.language.embeddings.vectors import Plan
from labs.language.topics import estimators
from labs.language.topics.classifier import (
    TopicModel,
    TopicTrial,
    cross_validate,
    fit_topic_model,
    load_topic_model,
    make_classifier,
)
from labs.runtime.checkpoints import load_checkpoint, save_checkpoint
from labs.runtime.errors import InputError

ENCODER = Encoder("some-encoder", "some-encoder", None, "abc", 512, SentenceForm("cls", True))
PLAN = Plan(ENCODER, EmbeddingOptions(max_length=128))
NAMES = ("a", "b", "c")


def clusters(n: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    vectors = rng.normal(size=(n, 6)) + 1.5 * np.eye(6)[labels]
    return (vectors * [1, 10, 0.1, 1, 1, 1] + 3).astype(np.float32), labels


def fit(classifier: str, classes: int = 3) -> TopicModel:
    vectors, labels = clusters(150, classes)
    return fit_topic_model(vectors, labels, NAMES[:classes], 0.5, PLAN, classifier=classifier)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_linear_svm_is_saved_as_arrays(classes: int, tmp_path: Path) -> None:
    model = fit("linear-svm", classes)
    model.save(tmp_path / "model.pt")
    loaded = load_topic_model(tmp_path / "model.pt")
    assert loaded.estimator is None and loaded.weights.shape == (1 if classes == 2 else classes, 6)
    vectors, labels = clusters(150, classes)
    pipeline = make_classifier("embeddings", 0.5, "linear-svm").fit(vectors, labels)
    new, _ = clusters(40, classes, seed=1)
    np.testing.assert_allclose(loaded.probabilities(new), pipeline.predict_proba(new), atol=1e-5)
    assert (loaded.classifier, loaded.form.pooling, loaded.form.normalise) == (
        "linear-svm", "cls", True,
    )  # fmt: skip
    strengths = {}
    for c in (0.001, 0.5):
        inner = make_classifier("embeddings", c, "linear-svm").fit(vectors, labels)[1]
        svm = inner.calibrated_classifiers_[0].estimator
        scaled = (vectors - vectors.mean(axis=0, dtype=float)) / vectors.std(axis=0, dtype=float)
        alone = LinearSVC(C=c, random_state=0, max_iter=5000).fit(scaled, labels)
        np.testing.assert_allclose(svm.coef_, alone.coef_, rtol=0.02, atol=2e-3)
        strengths[c] = np.abs(svm.coef_).max()
    assert strengths[0.001] < strengths[0.5] / 2
    logistic = fit("logistic", classes).probabilities(new)
    assert np.abs(logistic - loaded.probabilities(new)).max() > 0.01  # it is another classifier


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_forest_module.py").write_text(
        "from sklearn.ensemble import RandomForestClassifier\n"
        "def forest(c):\n"
        "    return RandomForestClassifier(8, max_depth=max(1, round(10 * c)), random_state=0)\n"
        "def regression(c):\n"
        "    from sklearn.linear_model import Ridge\n"
        "    return Ridge(c)\n"
        "def strange(c):\n"
        "    class Strange(RandomForestClassifier):\n"
        "        pass\n"
        "    Strange.__qualname__ = 'Strange'\n"
        "    globals()['Strange'] = Strange\n"
        "    return Strange(2)\n"
        "def failing(c):\n"
        "    raise KeyError('planted')\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return "own_forest_module:forest"


def test_a_custom_classifier_is_saved_by_skops(own: str, tmp_path: Path) -> None:
    pytest.importorskip("skops")
    vectors, labels = clusters(150, 3)
    model = fit(own)
    model.save(tmp_path / "model.pt")
    loaded = load_topic_model(tmp_path / "model.pt")
    new, _ = clusters(40, 3, seed=1)
    expected = make_classifier("embeddings", 0.5, own).fit(vectors, labels).predict_proba(new)
    np.testing.assert_allclose(loaded.probabilities(new), expected)
    content = load_checkpoint(tmp_path / "model.pt")["estimator"].numpy().tobytes()
    assert content[:2] == b"PK"  # skops' archive
    with pytest.raises(pickle.UnpicklingError):
        pickle.loads(content)
    reports = list(
        cross_validate(
            TopicTrial(c=0.5, folds=3, classifier=own), vectors=vectors, texts=[""] * 150, labels=labels
        )
    )  # fmt: skip
    assert reports[-1].metrics["val/accuracy"] > 0.5


OTHERS = [
    CalibratedClassifierCV(SVC(), ensemble=False),
    CalibratedClassifierCV(LinearSVC(), method="isotonic"),
    GaussianProcessClassifier(Matern() + WhiteKernel()),
    GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}),
    KNeighborsClassifier(algorithm="ball_tree", metric="manhattan"),
    MLPClassifier(solver="sgd", max_iter=30),
    SGDClassifier(loss="log_loss"),
    StackingClassifier([("a", LogisticRegression()), ("b", KNeighborsClassifier())]),
    VotingClassifier([("a", LogisticRegression()), ("b", GaussianNB())], voting="soft"),
    make_pipeline(MinMaxScaler(), SelectKBest(k=4), MultinomialNB()),
]
"""Beside those that all_estimators makes without arguments."""


@pytest.mark.filterwarnings("ignore")  # that so few steps do not converge, and of coming defaults
def test_scikit_learns_classifiers_are_kept_by_skops() -> None:
    pytest.importorskip("skops")
    vectors, labels = clusters(60, 3)
    made = list(OTHERS)
    for name, kind in all_estimators(type_filter="classifier"):
        if hasattr(kind, "predict_proba") and not name.endswith("NB"):  # those need other vectors
            with contextlib.suppress(TypeError):  # some are made of others
                made.append(kind())
    kept = []
    for estimator in made:
        if not hasattr(estimator, "predict_proba"):
            continue
        sizes = {"n_estimators", "max_iter", "Cs"} & estimator.get_params().keys()
        estimator.set_params(**dict.fromkeys(sizes, 8))  # quick
        pipeline = make_pipeline(StandardScaler(), estimator).fit(vectors, labels)
        content = estimators.dump_estimator(pipeline, "x:y")
        loaded = estimators.load_estimator(content, "model.pt")
        found, expected = loaded.predict_proba(vectors), pipeline.predict_proba(vectors)
        np.testing.assert_allclose(found, expected)
        kept.append(type(estimator).__name__)
    assert len(kept) >= 30 and {"HistGradientBoostingClassifier", "MLPClassifier"} <= set(kept)


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "subprocess.Popen",
        "sklearn.datasets._base.clear_data_home",  # deletes a directory
        "sklearn.utils._testing.TempMemmap",  # a class, but no part of an estimator
        "sklearn.tree._export.export_text",  # a function beside classes
        "sklearn.ensemble._forest.Parallel",  # imported from elsewhere
        "sklearn.neighbors_of_mine.KDTree",
        "sklearn.neighbors._kd_tree.Missing",
    ],
)
def test_names_that_are_no_plain_parts(name: str) -> None:
    assert not estimators.is_plain(name)
    assert estimators.is_plain("sklearn.neighbors._kd_tree.KDTree")


def test_a_function_that_a_file_would_have_called_is_not_loaded() -> None:
    pytest.importorskip("skops")
    vectors, labels = clusters(30, 3)
    pipeline = make_pipeline(FunctionTransformer(clear_data_home), LogisticRegression())
    pipeline[-1].fit(vectors, labels)
    content = estimators.dump_estimator(pipeline, "x:y")
    with pytest.raises(InputError, match="types that could run code: .*clear_data_home"):
        estimators.load_estimator(content, "model.pt")


class Strange(ClassifierMixin, BaseEstimator):
    """Skops does not know it."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> Strange:
        self.classes_ = np.unique(y)
        return self


def test_types_that_are_not_known_as_safe_are_not_loaded(tmp_path: Path) -> None:
    pytest.importorskip("skops")
    content = estimators.dump_estimator(Strange().fit(np.eye(2), np.arange(2)), "x:y")
    with pytest.raises(InputError, match="types that could run code: .*Strange"):
        estimators.load_estimator(content, "model.pt")
    with pytest.raises(InputError, match="damaged classifier"):
        estimators.load_estimator(content[: len(content) // 2], "model.pt")
    state = {**vars(fit("logistic")), "kind": "language.topics"}
    for name in ("mean", "scale", "weights", "biases"):
        state[name] = torch.from_numpy(state[name])
    state["estimator"] = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    save_checkpoint(tmp_path / "model.pt", state)
    with pytest.raises(InputError, match="are not loaded"):
        load_topic_model(tmp_path / "model.pt")


def test_an_object_that_is_no_classifier_is_refused(
    own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("skops")
    module = own.split(":")[0]
    for name, message in (
        ("forest", "`classifier` forest is unknown: use logistic, linear-svm, or module:factory"),
        (f"{module}:nothing", "has no nothing"),
        ("no_such_module:forest", "there is no module no_such_module"),
        (f"{module}:regression", "gave Ridge, which has no predict_proba"),
        (f"{module}:failing", "was called with C = 0.1 and failed: 'planted' .KeyError"),
    ):
        with pytest.raises(InputError, match=message):
            estimators.make_estimator(name, 0.1)
    with pytest.raises(InputError, match="types that could run code: .*Strange"):
        estimators.check_can_be_saved(f"{module}:strange")
    estimators.check_can_be_saved(own)
    monkeypatch.setitem(sys.modules, "skops", None)
    estimators.check_can_be_saved("linear-svm")
    with pytest.raises(InputError, match="skops .* is not installed .pip install"):
        estimators.check_can_be_saved(own)
