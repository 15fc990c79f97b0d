"""Texts per second of the embedding pipeline and of common alternatives, one row per variant.

Parts (``--parts``), each with the same texts and the same encoder; loading a model is never counted:

- ``threads``: in one process with a thread per core. A plain loop and sentence-transformers in float32
  and (if the processor has it) bfloat16, with default and best batch size; ONNX Runtime in float32 and
  int8; OpenVINO with its best batch size; ours step by step: batches in file order, sorted by length,
  small passes, bfloat16, OpenVINO. The variants run in turn; the median counts. Each row has the smallest
  cosine similarity to float32.
- ``actors``: one thread in each of as many processes as there are cores. Ours as Ray Data actors, without
  their start-up; the baselines as processes that begin together, each with its share of the texts.
- ``accuracy``: a logistic regression on AG News (``--data``) with the vectors of each precision.
- ``overhead``: one actor against the same Embedder in this process; Ray Data's start-up is listed separately.
- ``memory``: peak memory of driver and actors for 10,000 and 100,000 texts, with a tiny encoder.

    python benchmarks/embeddings.py --data ../shared/data/ag_news --parts threads actors overhead
    python benchmarks/embeddings.py --encoder distilbert-sized --texts 128     # random weights
"""

from __future__ import annotations

import functools
import os
import resource
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import embedding_baselines as baselines
import numpy as np
import pyarrow as pa
import torch
import tyro
from random_encoders import distilbert_sized, tiny_encoder

from labs.language.embeddings.embedder import Backend, Embedder, EmbeddingOptions
from labs.language.embeddings.encoders import DTYPES, PACKAGED, Encoder, resolve_encoder
from labs.language.embeddings.forward import least_cosine
from labs.language.embeddings.vectors import plan
from labs.language.pipeline import Batches, Columns, Display, PoolOptions, concatenate, map_rows
from labs.language.topics.classifier import make_classifier
from labs.language.topics.texts import load_texts
from labs.runtime.cli import launch
from labs.runtime.errors import InputError
from labs.runtime.loop.console import say
from labs.runtime.machine.devices import Precision, resolve_precision
from labs.runtime.machine.resources import available_nodes
from labs.runtime.machine.session import connect
from labs.runtime.options import RuntimeOptions

PARTS = ("threads", "actors", "accuracy", "overhead", "memory")
SIZED = "distilbert-sized"
CORES = len(os.sched_getaffinity(0))
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
if resolve_precision("auto", torch.device("cpu")) != torch.bfloat16:
    PRECISIONS = ("float32",)  # without instructions for it bfloat16 takes many times as long
BACKENDS: dict[Backend, str] = {"torch": "PyTorch", "openvino": "OpenVINO"}
HINTS = {"float32": "f32", "bfloat16": "bf16"}
OWN = tuple(f"ours, OpenVINO, {precision}" for precision in PRECISIONS)
Vectors = Callable[[list[str]], np.ndarray]


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    data: str = "sample"
    """As for experiments/news_topics.py; the training texts are used."""

    texts: int = 256
    """Texts per measurement; repeated if there are fewer."""

    encoder: str = PACKAGED
    """As for experiments/news_topics.py; distilbert-sized has DistilBERT's sizes and random weights."""

    parts: tuple[str, ...] = ("threads",)
    """Any of threads, actors, accuracy, overhead, memory."""

    repeats: int = 5
    """Measurements of each variant; the median counts."""

    runtime: tyro.conf.OmitArgPrefixes[RuntimeOptions] = field(default_factory=RuntimeOptions)


class TimedEmbedder(Embedder):
    """Also returns when each batch began and ended, and the peak memory of its process."""

    _warm = False

    def __call__(self, batch: Columns) -> Columns:
        """The embedder's columns, and ``facts``: begin, end, process id and peak memory in MB."""
        if not self._warm:  # as the baselines: some texts before the clock starts
            super().__call__({name: column[:32] for name, column in batch.items()})
            self._warm = True
        begun = time.time()
        results = super().__call__(batch)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        facts = np.array([[begun, time.time(), os.getpid(), peak]])
        return {**results, "facts": np.repeat(facts, len(batch["text"]), axis=0)}


def options_of(
    backend: Backend, precision: Precision, tokens: int | None = None
) -> EmbeddingOptions:
    """Options with mean pooling and these values."""
    return EmbeddingOptions("mean", 256, precision, backend, tokens_per_batch=tokens)


def ours(
    encoder: Encoder,
    backend: Backend,
    precision: Precision,
    tokens: int | None = None,
    batch: int | None = None,
    ordered: bool = True,
) -> Vectors:
    """The Embedder in this process; in batches of ``batch``, optionally sorted by length."""
    nodes = available_nodes(RuntimeOptions())
    embedder = Embedder(**vars(plan(encoder, options_of(backend, precision, tokens), nodes)))

    def encode(texts: list[str]) -> np.ndarray:
        order = np.arange(len(texts))
        if ordered:
            order = np.argsort([-len(text) for text in texts], kind="stable")
        size = batch or 256
        vectors = [
            embedder({"text": np.array([texts[i] for i in order[k : k + size]], dtype=object)})
            for k in range(0, len(order), size)
        ]
        found = np.concatenate([part["embedding"] for part in vectors])
        result = np.empty_like(found)
        result[order] = found
        return result

    return encode


def variants(encoder: Encoder, texts: list[str]) -> dict[str, Vectors]:
    """Everything that is compared in one process, with the models loaded."""
    loops = {
        "plain loop": baselines.plain_loop,
        "sentence-transformers": baselines.sentence_transformer,
    }
    loaded = {
        f"{name}, {precision}": make(encoder, DTYPES[precision])
        for name, make in loops.items()
        for precision in PRECISIONS
    }
    made: dict[str, Vectors] = {
        f"{name}, batches of 32 (default)": functools.partial(encode, batch_size=32)
        for name, encode in loaded.items()
    }
    for int8, word in ((False, "float32"), (True, "int8, dynamic")):
        loaded[f"ONNX Runtime, {word}"] = baselines.onnx_runtime(encoder, int8, CORES)
    for precision in PRECISIONS:
        loaded[f"OpenVINO, {precision}"] = baselines.openvino(
            encoder, HINTS[precision], CORES, pinned=True
        )
    for name, encode in loaded.items():
        size = baselines.best_batch(encode, texts)
        if f"{name}, batches of {size} (default)" not in made:
            made[f"{name}, batches of {size} (best)"] = functools.partial(encode, batch_size=size)
    whole = 32 * 256  # tokens: one pass of a batch of 32
    made["ours, PyTorch, float32, file order, batches of 32"] = ours(
        encoder, "torch", "float32", whole, 32, ordered=False
    )
    made["+ sorted by length"] = ours(encoder, "torch", "float32", whole, 32)
    made["+ small passes (ours, PyTorch, float32)"] = ours(encoder, "torch", "float32")
    if "bfloat16" in PRECISIONS:
        made["+ bfloat16 (ours, PyTorch, bfloat16)"] = ours(encoder, "torch", "bfloat16")
    for precision in PRECISIONS:
        made[f"ours, OpenVINO, {precision}"] = ours(encoder, "openvino", precision)
    return made


def show(made: Mapping[str, list[float]], cosines: Mapping[str, float], count: int) -> None:
    """Print a Markdown row for each: the median, the ratios of ours to it, the smallest cosine."""
    speeds = {name: count / float(np.median(taken)) for name, taken in made.items()}
    titles = " | ".join(f"{name} is" for name in OWN)
    say(f"| | texts/s | {titles} | smallest cosine |")
    say("|---|---|" + "---|" * len(OWN) + "---|")
    for name, speed in speeds.items():
        ratios = " | ".join(f"{speeds[mine] / speed:.2f} x" for mine in OWN)
        value = f"{cosines[name]:.5f}" if name in cosines else ""
        say(f"| {name} | {speed:.0f} | {ratios} | {value} |")


def in_threads(texts: list[str], encoder: Encoder, repeats: int) -> None:
    """Measure everything in one process with all cores."""
    torch.set_num_threads(CORES)
    made = variants(encoder, texts)
    say(f"one process, {CORES} threads, {len(texts)} texts, median of {repeats} alternated runs")
    reference = made["ours, PyTorch, float32, file order, batches of 32"](texts)
    cosines = {name: least_cosine([encode(texts)], [reference]) for name, encode in made.items()}
    taken: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(repeats):
        for name, encode in made.items():
            time.sleep(0.1)  # until the threads of the previous variant stop spinning
            taken[name].append(baselines.seconds(functools.partial(encode, texts)))
    show(taken, cosines, len(texts))


def by_actors(texts: list[str], encoder: Encoder, repeats: int) -> None:
    """Measure processes of one thread, one per core."""
    say(f"{CORES} processes of one thread, {len(texts)} texts, median of {repeats} runs each;")
    say("start-up and loading not counted")
    taken: dict[str, list[float]] = {}
    for precision in PRECISIONS:
        for pinned in (True, False):
            make = functools.partial(baselines.openvino, encoder, HINTS[precision], 1, pinned)
            name = f"OpenVINO, {precision}, {'pinned (default)' if pinned else 'not pinned'}"
            taken[name] = baselines.by_processes(make, texts, 16, CORES, repeats)
    for precision in PRECISIONS:
        make = functools.partial(baselines.sentence_transformer, encoder, DTYPES[precision])
        taken[f"sentence-transformers, {precision}"] = baselines.by_processes(
            make, texts, 16, CORES, repeats
        )
    for backend, title in BACKENDS.items():
        for precision in PRECISIONS:
            taken[f"ours, {title}, {precision}"] = [
                steady_seconds(pooled(texts, encoder, CORES, backend, precision)[0])
                for _ in range(repeats)
            ]
    show(taken, {}, len(texts))


def accuracy(data: str, encoder: Encoder) -> None:
    """Accuracy with 4,000 training and 4,000 test texts and C = 0.003."""
    torch.set_num_threads(CORES)
    corpus = load_texts(data, train_size=4000, test_size=4000)
    texts = corpus.train.texts + corpus.test.texts
    kinds: dict[str, Vectors] = {
        f"{title}, {precision}": ours(encoder, backend, precision)
        for backend, title in BACKENDS.items()
        for precision in PRECISIONS
    }
    int8 = baselines.onnx_runtime(encoder, True, CORES)
    kinds["ONNX Runtime, int8"] = functools.partial(int8, batch_size=16)
    count = len(corpus.train)
    for name, encode in kinds.items():
        vectors = encode(texts)
        classifier = make_classifier("embeddings", 0.003).fit(vectors[:count], corpus.train.labels)
        right = classifier.predict(vectors[count:]) == corpus.test.labels
        say(f"{name}: accuracy {right.mean():.4f}")


def pooled(
    texts: list[str], encoder: Encoder, actors: int | None, backend: Backend, precision: Precision
) -> tuple[Columns, float]:
    """Embed by actors, or in this process if ``actors`` is None; also returns the total seconds."""
    options = options_of(backend, precision)
    arguments = vars(plan(encoder, options, available_nodes(RuntimeOptions())))
    begun = time.perf_counter()
    runs = map_rows(
        TimedEmbedder,
        arguments,
        pa.table({"text": texts}),
        Batches(
            options.chunk_size if len(texts) > 2000 else 64,
            np.array([len(text) for text in texts]),
        ),
        pool=PoolOptions(actors, 1),
        in_process=actors is None,
        display=Display(progress=False),
    )
    return concatenate(runs), time.perf_counter() - begun


def steady_seconds(columns: Columns) -> float:
    """From the beginning of an actor's first batch to the end of the last batch of all.

    This is averaged over the actors, because one may start seconds after the other.
    """
    facts = columns["facts"]
    first = [facts[facts[:, 2] == pid, 0].min() for pid in np.unique(facts[:, 2])]
    return float(facts[:, 1].max() - np.mean(first))


def overhead(texts: list[str], encoder: Encoder) -> None:
    """The cost of Ray Data beside the embedder; the actor runs before and after."""
    actor, _ = pooled(texts, encoder, 1, "auto", "auto")
    here, _ = pooled(texts, encoder, None, "auto", "auto")
    again, total = pooled(texts, encoder, 1, "auto", "auto")
    for name, columns in (("actor", actor), ("this process", here), ("actor again", again)):
        seconds = steady_seconds(columns)
        say(f"{name}: {seconds:.1f} s, {len(texts) / seconds:.1f} texts/s")
    ratio = (steady_seconds(actor) + steady_seconds(again)) / 2 / steady_seconds(here) - 1
    say(
        f"Ray Data's own cost: {100 * ratio:+.1f}% (start-up: {total - steady_seconds(again):.1f} s)"
    )


def memory(texts: list[str], directory: Path) -> None:
    """Peak memory. A process's peak never falls, so the small job comes first."""
    encoder = tiny_encoder(directory)
    for count in (10_000, 100_000):
        rows = (texts * (count // len(texts) + 1))[:count]
        columns, _ = pooled(rows, encoder, CORES, "torch", "float32")
        facts = columns["facts"]
        actors = [facts[facts[:, 2] == pid, 3].max() for pid in np.unique(facts[:, 2])]
        results = sum(column.nbytes for column in columns.values()) / 2**20
        driver = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        say(
            f"{count} texts: driver {driver:.0f} MB at its peak, of which the results are"
            f" {results:.0f} MB; actors {', '.join(f'{peak:.0f}' for peak in actors)} MB"
        )
        del columns, facts


def main(config: Config) -> int:
    """Measure the requested parts."""
    unknown = set(config.parts) - set(PARTS)
    if unknown:
        raise InputError(f"--parts {unknown.pop()} is unknown: use {', '.join(PARTS)}")
    texts = load_texts(config.data).train.texts
    texts = (texts * (config.texts // len(texts) + 1))[: config.texts]
    with tempfile.TemporaryDirectory() as directory:
        if config.encoder == SIZED:
            encoder = distilbert_sized(Path(directory) / "encoder")
        else:
            encoder, _ = resolve_encoder(config.encoder)
        versions = f"torch {torch.__version__}, {CORES} cores, {' and '.join(PRECISIONS)}"
        say(f"encoder {encoder.name}, {versions}")
        if "threads" in config.parts:
            in_threads(texts, encoder, config.repeats)
        if "accuracy" in config.parts:
            accuracy(config.data, encoder)
        if set(config.parts) & {"actors", "overhead", "memory"}:
            with connect(config.runtime):
                if "actors" in config.parts:
                    by_actors(texts, encoder, config.repeats)
                if "overhead" in config.parts:
                    overhead(texts, encoder)
                if "memory" in config.parts:
                    memory(texts, Path(directory) / "tiny")
    return 0


if __name__ == "__main__":
    launch(main, Config)
