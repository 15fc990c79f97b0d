"""The steps of the topic study between the texts and the run's directory."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from labs.language.embeddings.embedder import EmbeddingOptions
from labs.language.embeddings.encoders import resolve_encoder
from labs.language.embeddings.vectors import Embeddings, Plan, embed, plan
from labs.language.topics import evaluation as topic_evaluation
from labs.language.topics import figures as topic_figures
from labs.language.topics import learning_curve
from labs.language.topics.classifier import (
    METRIC,
    Baseline,
    Features,
    TopicModel,
    TopicTrial,
    baseline_probabilities,
    best_c,
    check_folds,
    fit_topic_model,
    load_topic_model,
)
from labs.language.topics.evaluation import Evaluation
from labs.language.topics.figures import TITLES
from labs.language.topics.texts import TextCorpus
from labs.runtime.directory.runs import Run
from labs.runtime.errors import InputError
from labs.runtime.loop.console import counted, duration, say, show_table
from labs.runtime.machine.resources import available_nodes
from labs.runtime.machine.session import connect
from labs.runtime.options import RuntimeOptions
from labs.runtime.results import GridResult

MODEL_FILE = "model.pt"
MAPPED_TEXTS = 1000
"""Texts of each set on the map: t-SNE takes time that grows faster than their number."""


def trial_grid(
    embeddings_c: Sequence[float],
    tfidf_c: Sequence[float],
    baselines: Sequence[Baseline],
    folds: int,
    seed: int,
    classifier: str,
    train_sizes: Sequence[int] = (),
) -> list[TopicTrial]:
    """Every C of each kind of features, which have different scales and so different best values.

    Then the same at each size of a learning curve.
    """
    trials = [TopicTrial("embeddings", c, folds, seed, classifier) for c in embeddings_c]
    for features in dict.fromkeys(baselines):
        trials += [TopicTrial(features, c, folds, seed, classifier) for c in tfidf_c]
    return trials + learning_curve.curve_trials(trials, train_sizes)


def edge_warning(table: pd.DataFrame, features: Features) -> str:
    """A sentence if the best C is the smallest or largest one tried: a better one may lie beyond."""
    chosen = best_c(table, features)
    tried = table.loc[table["features"] == features, "c"]
    if chosen is None or len(tried) < 2 or tried.min() < chosen < tried.max():
        return ""
    edge, beyond = ("smallest", "smaller") if chosen == tried.min() else ("largest", "larger")
    return (
        f"the best C for {TITLES[features]}, {chosen:g}, is the {edge} one tried: a {beyond} one may be"
        " better"
    )


def check_trials(corpus: TextCorpus, trials: Sequence[TopicTrial]) -> None:
    """Refuse what cannot be cross-validated, or drawn for a learning curve.

    Raises:
        InputError: there are too few texts of a class.
    """
    labels, folds, seed = corpus.train.labels, trials[0].folds, trials[0].seed
    check_folds(labels, corpus.classes, folds)
    sizes = sorted({trial.train_size for trial in trials if trial.train_size is not None})
    learning_curve.check_train_sizes(sizes, labels, corpus.classes, folds, seed)


def shared_data(
    corpus: TextCorpus, embeddings: Mapping[str, Embeddings], trials: Sequence[TopicTrial]
) -> dict[str, Any]:
    """What all trials of ``cross_validate`` read; the test texts only for a learning curve."""
    shared = {
        "vectors": embeddings["train"].vectors,
        "texts": corpus.train.texts,
        "labels": corpus.train.labels,
    }
    if any(trial.train_size is not None for trial in trials):
        shared["test_inputs"] = (embeddings["test"].vectors, corpus.test.texts)
        shared["test_labels"] = corpus.test.labels
    return shared


def embed_corpus(corpus: TextCorpus, planned: Plan, verbose: bool = False) -> dict[str, Embeddings]:
    """The vectors of ``train`` and ``test``; says what became of the texts. Needs a connection."""
    options = planned.options
    parts = {"train": corpus.train.texts, "test": corpus.test.texts}
    embedded = embed(list(parts.values()), planned, verbose=verbose)
    found = dict(zip(parts, embedded, strict=True))
    new = [name for name, part in found.items() if not part.from_cache]
    for name, part in found.items():
        if part.from_cache:
            say(f"{len(parts[name])} {name} texts: embeddings from {options.cache_dir}")
    if new:
        counts = " and ".join(f"{len(parts[name])} {name}" for name in new)
        say(f"{counts} texts embedded in {duration(found[new[-1]].seconds)}")
    truncated = sum(int(part.truncated.sum()) for part in found.values())
    if truncated:
        long = f"{counted(truncated, 'text')} longer than {options.max_length} tokens"
        say(f"{long}: the rest is not read")
    return found


def evaluate_and_report(
    run: Run,
    corpus: TextCorpus,
    embeddings: Mapping[str, Embeddings],
    planned: Plan,
    result: GridResult,
    trials: Sequence[TopicTrial],
) -> TopicModel | None:
    """Train the chosen classifier, compare it with the baselines, and leave all results in ``run``.

    Args:
        embeddings: of ``train`` and ``test``.
        planned: how they were made.
        trials: what ``result`` is of; its first one has the seed and the classifier of all.

    Returns:
        The classifier, also saved as ``model.pt``; ``None`` where no trial of its grid finished.
    """
    seed, classifier = trials[0].seed, trials[0].classifier
    chosen = choose_c(result.table, trials)
    if "embeddings" not in chosen:
        return None
    train, test = embeddings["train"].vectors, embeddings["test"].vectors
    model = fit_topic_model(
        train, corpus.train.labels, corpus.classes, chosen["embeddings"], planned, classifier
    )
    model.save(run.path / MODEL_FILE)
    probabilities: dict[Features, np.ndarray] = {"embeddings": model.probabilities(test)}
    for features, c in chosen.items():
        if features != "embeddings":
            probabilities[features] = baseline_probabilities(
                features, corpus.train, corpus.test.texts, c, classifier
            )
    evaluations = {
        features: topic_evaluation.evaluate(corpus.test.labels, p, corpus.classes, seed)
        for features, p in probabilities.items()
    }
    _report_comparison(run, evaluations, chosen)
    sentence = _verdict(corpus.test.labels, probabilities, result.table, seed)
    if sentence:
        run.add_text("verdict", sentence)
        say(sentence)
    if any(trial.train_size is not None for trial in trials):
        _report_learning_curve(run, evaluations, result.table, len(corpus.train))
    _report_embeddings(run, corpus, evaluations["embeddings"], probabilities["embeddings"])
    run.add_figure(
        "choice_of_c", topic_figures.choice_figure(result.history, main_trials(result.table))
    )
    _add_map(run, corpus, {"train": train, "test": test}, seed)
    return model


def choose_c(table: pd.DataFrame, trials: Sequence[TopicTrial]) -> dict[Features, float]:
    """The best C of each kind of features with finished trials; warns if it is an edge of the grid."""
    chosen: dict[Features, float] = {}
    for features in dict.fromkeys(trial.features for trial in trials):
        best = best_c(table, features)
        if best is None:
            continue
        chosen[features] = best
        if sentence := edge_warning(table, features):
            say(f"warning: {sentence}")
    return chosen


def _report_comparison(
    run: Run, evaluations: Mapping[Features, Evaluation], chosen: Mapping[Features, float]
) -> None:
    """Report all classifiers on the test texts, side by side."""
    names = {features: f"{TITLES[features]}, C = {c:g}" for features, c in chosen.items()}
    table = topic_evaluation.comparison({names[f]: found for f, found in evaluations.items()})
    run.add_table("test", table)
    show_table(table, intervals=topic_evaluation.METRICS)


def _report_learning_curve(
    run: Run, evaluations: Mapping[Features, Evaluation], table: pd.DataFrame, train_size: int
) -> None:
    whole = {features: found.metrics["accuracy"] for features, found in evaluations.items()}
    curve = learning_curve.curve_table(table, whole, train_size)
    run.add_table("learning_curve", curve)
    run.add_figure("learning_curve", learning_curve.curve_figure(curve))
    show_table(curve)
    if sentence := learning_curve.edges_note(table):
        say(f"warning: {sentence}")


def _report_embeddings(
    run: Run, corpus: TextCorpus, evaluation: Evaluation, probabilities: np.ndarray
) -> None:
    """Report the errors of the classifier on embeddings."""
    for metric, interval in evaluation.metrics.items():
        run.writer.add_scalar(f"test/{metric}", interval.estimate, 0)
    run.add_table("per_class", evaluation.per_class)
    mistakes = topic_evaluation.confident_mistakes(
        corpus.test.texts, corpus.test.labels, probabilities, corpus.classes
    )
    run.add_table("confident_mistakes", mistakes)
    run.add_figure("confusion", topic_figures.confusion_figure(evaluation, corpus.classes))


def main_trials(table: pd.DataFrame) -> pd.DataFrame:
    """The trials on all training texts, without the points of a learning curve."""
    return table[table["train_size"].isna()] if "train_size" in table else table


def _verdict(
    labels: np.ndarray, probabilities: Mapping[Features, np.ndarray], table: pd.DataFrame, seed: int
) -> str:
    """Whether the embeddings are worth their time: beside the best baseline in cross-validation."""
    if len(probabilities) < 2:
        return ""
    means = main_trials(table).groupby("features")[METRIC].max()
    best = max((name for name in probabilities if name != "embeddings"), key=lambda f: means[f])
    title = TITLES[best]
    gain = topic_evaluation.accuracy_gain(
        labels, probabilities["embeddings"], probabilities[best], seed
    )
    points = gain.format(1, scale=100)
    if gain.low > 0:
        return f"The embeddings beat {title} by {points} points of accuracy."
    if gain.high < 0:
        lead = gain.scaled(-100).format(1)
        return f"{title} beats the embeddings by {lead} points of accuracy."
    return f"The embeddings and {title} cannot be told apart ({points} points of accuracy)."


def _add_map(run: Run, corpus: TextCorpus, vectors: Mapping[str, np.ndarray], seed: int) -> None:
    """The map of texts as a figure, and the same texts in TensorBoard's projector."""
    parts = {"train": corpus.train, "test": corpus.test}
    chosen, positions = topic_figures.map_texts(vectors, MAPPED_TEXTS, seed)
    labels = {name: parts[name].labels[rows] for name, rows in chosen.items()}
    run.add_figure("map_of_texts", topic_figures.map_figure(positions, labels, corpus.classes))
    metadata = [
        [name, corpus.classes[parts[name].labels[row]], " ".join(parts[name].texts[row].split())]
        for name, rows in chosen.items()
        for row in rows
    ]
    run.writer.add_embedding(
        np.concatenate([vectors[name][rows] for name, rows in chosen.items()]),
        metadata,
        metadata_header=["set", "class", "text"],
        tag="texts",
    )


def classify(
    model: TopicModel,
    texts: Sequence[str],
    options: EmbeddingOptions,
    runtime: RuntimeOptions,
    encoder_name: str | None = None,
) -> pd.DataFrame:
    """Classify new texts: ``class``, the probability of each class, and ``text``.

    Raises:
        InputError: the model's encoder is not available, or its weights have changed.
    """
    encoder, _ = resolve_encoder(encoder_name or model.encoder)
    if encoder.weights_hash != model.encoder_hash:
        raise InputError(
            f"`encoder` {encoder.name} has other weights than the encoder that the model was"
            f" trained on ({model.encoder}, hash {model.encoder_hash})"
        )
    few = len(texts) <= options.chunk_size
    options = dataclasses.replace(
        options,
        pooling=options.pooling if encoder.own else "auto",  # the form, below; an own one has none
        max_length=model.max_length,
        backend="torch" if few and not encoder.own else options.backend,  # which starts faster
    )
    encoder = dataclasses.replace(encoder, form=model.form)
    with contextlib.nullcontext() if few else connect(runtime):
        nodes = available_nodes(runtime)
        if few and not nodes:  # few texts: not worth connecting to a remote cluster
            nodes = available_nodes(RuntimeOptions())
        planned = plan(encoder, options, nodes)
        (found,) = embed([texts], planned, keep=False, in_process=few or None, progress=not few)
    probabilities = model.probabilities(found.vectors)
    table = pd.DataFrame({"class": [model.classes[i] for i in probabilities.argmax(axis=1)]})
    for index, name in enumerate(model.classes):
        table[name] = probabilities[:, index]
    table["text"] = list(texts)
    return table


def find_model(path: Path) -> TopicModel:
    """The classifier at a path, or in a run's directory.

    Raises:
        InputError: there is no model.
    """
    return load_topic_model(path / MODEL_FILE if path.is_dir() else path)
