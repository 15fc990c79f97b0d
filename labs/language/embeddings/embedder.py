"""Texts as vectors: a frozen encoder over batches without waste."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from tyro.conf import OmitArgPrefixes

from labs.language.embeddings.cache import EmbeddingCache
from labs.language.embeddings.encoders import Encoder, encoder_precision, load_encoder
from labs.language.pipeline import (
    Batches,
    Columns,
    Display,
    PoolOptions,
    concatenate,
    map_rows,
    resolve_pool,
)
from labs.runtime.errors import InputError
from labs.runtime.machine.devices import Precision, resolve_device
from labs.runtime.machine.resources import Node

Pooling = Literal["mean", "cls"]
TOKENS_PER_BATCH = {"cpu": 1024, "cuda": 32_768}
"""Measured on a core with AVX2 for a 6-layer encoder of width 384: the activations of 500 to 1000
tokens stay in the cache, and passes of 3,500 are a tenth slower. A GPU needs more work per call."""


@dataclass(frozen=True)
class EmbeddingOptions:
    """How texts become vectors."""

    pooling: Pooling = "mean"
    """mean over the real tokens (padding never counts), or the vector of the first token (cls)."""

    max_length: int = 256
    """Tokens of a text that are read; the rest is cut off, and counted."""

    precision: Precision = "auto"
    """auto computes in bfloat16 if the device has instructions for it, else in float32."""

    chunk_size: int = 256
    """Texts that an actor gets at once."""

    tokens_per_batch: int | None = None
    """Tokens, padding included, of one forward pass. Default: 1024 on a CPU, 32768 on a GPU."""

    cache_dir: Path | None = Path("~/.cache/labs/embeddings")
    """Where vectors are kept for the next run, in whichever directory it starts ('None' keeps none)."""

    pool: OmitArgPrefixes[PoolOptions] = field(default_factory=PoolOptions)
    """The actors."""

    def __post_init__(self) -> None:
        if self.max_length < 3:
            raise InputError(f"`max_length` {self.max_length} must be at least 3, for instance 256")
        if self.chunk_size < 1:
            raise InputError(f"`chunk_size` {self.chunk_size} must be at least 1")
        if self.tokens_per_batch is not None and self.tokens_per_batch < 1:
            raise InputError(f"`tokens_per_batch` {self.tokens_per_batch} must be at least 1")


class Embedder:
    """Tokenises texts and maps them to vectors; a worker of ``map_rows``.

    A batch is sorted by its number of tokens and cut into forward passes of about
    ``tokens_per_batch`` tokens, each padded to its own longest text.

    Args:
        source, revision: the encoder, see :class:`labs.language.embeddings.encoders.Encoder`.
        pooling: ``mean`` or ``cls``.
        max_length: tokens of a text that are read.
        precision: ``float32`` or ``bfloat16``.
        tokens_per_batch: tokens of a forward pass; ``None`` for the device's default.
        device: ``auto``, ``cpu`` or ``cuda``.

    Raises:
        InputError: the encoder cannot be loaded.
    """

    def __init__(
        self,
        source: str,
        revision: str | None = None,
        pooling: Pooling = "mean",
        max_length: int = 256,
        precision: Precision = "float32",
        tokens_per_batch: int | None = None,
        device: str = "auto",
    ) -> None:
        self._device = resolve_device(device)
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        self._tokenizer, model = load_encoder(source, revision, dtype)
        self._model = model.to(self._device)
        self._pooling = pooling
        self._max_length = max_length
        self._tokens_per_batch = tokens_per_batch or TOKENS_PER_BATCH[self._device.type]
        self._pad = self._tokenizer.pad_token_id or 0

    def __call__(self, batch: Columns) -> Columns:
        """Embed ``batch["text"]``.

        Returns:
            ``embedding`` float32 ``[n, width]``, ``tokens`` int32 ``[n]`` (special ones included)
            and ``truncated`` bool ``[n]``.
        """
        encoded = self._tokenizer(
            batch["text"].tolist(), truncation=True, max_length=self._max_length
        )
        tokens = encoded["input_ids"]
        lengths = np.array([len(ids) for ids in tokens], dtype=np.int32)
        order = np.argsort(-lengths, kind="stable")
        vectors = None
        start = 0
        while start < len(order):
            # Sorted by length: the first text of a pass is its longest.
            size = max(1, self._tokens_per_batch // max(1, int(lengths[order[start]])))
            chosen = order[start : start + size]
            pooled = self._forward([tokens[i] for i in chosen], lengths[chosen])
            if vectors is None:
                vectors = np.empty((len(order), pooled.shape[1]), dtype=np.float32)
            vectors[chosen] = pooled
            start += size
        truncated = np.array([bool(e.overflowing) for e in encoded.encodings], dtype=bool)
        assert vectors is not None, "map_rows makes no empty batch"
        return {"embedding": vectors, "tokens": lengths, "truncated": truncated}

    @torch.inference_mode()
    def _forward(self, tokens: Sequence[Sequence[int]], lengths: np.ndarray) -> np.ndarray:
        """Vectors of one forward pass, float32 ``[n, width]``; texts in falling length."""
        width = max(1, int(lengths[0]))
        ids = np.full((len(tokens), width), self._pad, dtype=np.int64)
        for row, text in zip(ids, tokens, strict=True):
            row[: len(text)] = text
        mask = torch.from_numpy(np.arange(width) < np.maximum(lengths, 1)[:, None])
        mask = mask.to(self._device)
        hidden = self._model(
            input_ids=torch.from_numpy(ids).to(self._device), attention_mask=mask.long()
        ).last_hidden_state
        return pool_tokens(hidden.float(), mask, self._pooling).cpu().numpy()


def pool_tokens(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """One vector per text.

    Args:
        hidden: ``[n, tokens, width]``.
        mask: bool ``[n, tokens]``, true at real tokens, at least one per text.
        pooling: ``mean`` over the real tokens, or ``cls``, the first token.

    Returns:
        ``[n, width]``.
    """
    if pooling == "cls":
        return hidden[:, 0]
    weights = mask.to(hidden.dtype)
    return torch.einsum("ntw,nt->nw", hidden, weights) / weights.sum(1, keepdim=True)


@dataclass(frozen=True)
class Embeddings:
    """The vectors of some texts, in their order.

    Attributes:
        vectors: float32 ``[n, width]``.
        tokens: int32 ``[n]``, tokens that were read.
        truncated: bool ``[n]``, whether a text was longer.
        seconds: from the start of the run that computed them (and other parts with them) until they
            were complete; 0 if they come from the cache.
    """

    vectors: np.ndarray
    tokens: np.ndarray
    truncated: np.ndarray
    seconds: float

    @property
    def from_cache(self) -> bool:
        """Whether nothing had to be computed."""
        return self.seconds == 0


def embed(
    parts: Sequence[Sequence[str]],
    encoder: Encoder,
    options: EmbeddingOptions,
    nodes: Sequence[Node],
    *,
    in_process: bool | None = None,
    progress: bool = True,
    verbose: bool = False,
) -> list[Embeddings]:
    """The vectors of each part's texts, from the cache if they are in it, else computed and cached.

    All missing vectors are computed in one run, since starting the actors takes seconds.

    Args:
        parts: sets of texts, such as training and test texts, each with a file of its own in the
            cache.
        nodes: the machines, see ``labs.runtime.machine.resources.available_nodes``.
        in_process: as for :func:`labs.language.pipeline.map_rows`.

    Raises:
        InputError: bad options, an encoder that cannot be loaded, or a cache that cannot be written.
        RuntimeError: the actors failed.
    """
    arguments = embedder_arguments(encoder, options, nodes)
    caches: list[EmbeddingCache | None] = [None] * len(parts)
    if options.cache_dir is not None:
        keys = [cache_key(texts, encoder, arguments) for texts in parts]
        caches = [EmbeddingCache(options.cache_dir, key) for key in keys]
    kept = [cache.read() if cache is not None else None for cache in caches]
    embeddings = {i: Embeddings(**found, seconds=0.0) for i, found in enumerate(kept) if found}
    missing = [index for index in range(len(parts)) if index not in embeddings]
    texts = [text for index in missing for text in parts[index]]
    begun = time.perf_counter()
    runs: Iterator[Columns] = iter(())
    if missing:
        runs = map_rows(
            Embedder,
            arguments,
            pa.table({"text": pa.array(texts, pa.large_string())}),
            Batches(
                options.chunk_size,
                # A text costs about its length, up to what is read of it; 16 for the fixed part.
                np.array([min(len(text), 8 * options.max_length) + 16 for text in texts]),
            ),
            pool=options.pool,
            in_process=in_process,
            display=Display("texts", progress, verbose),
        )
    left_over: list[Columns] = []
    for index in missing:
        part, cache = _take(runs, left_over, len(parts[index])), caches[index]
        found = concatenate(part if cache is None else cache.keep(part))
        seconds = time.perf_counter() - begun
        embeddings[index] = Embeddings(
            found["embedding"], found["tokens"], found["truncated"], seconds
        )
    next(runs, None)  # let it finish, which ends the actors
    return [embeddings[index] for index in range(len(parts))]


def _take(runs: Iterator[Columns], left_over: list[Columns], count: int) -> Iterator[Columns]:
    """The next ``count`` rows of ``runs``; rows beyond them go to ``left_over``."""
    while count:
        run = left_over.pop() if left_over else next(runs)
        rows = len(run["embedding"])
        if rows > count:
            left_over.append({name: column[count:] for name, column in run.items()})
            run = {name: column[:count] for name, column in run.items()}
        count -= min(rows, count)
        yield run


def embedder_arguments(
    encoder: Encoder, options: EmbeddingOptions, nodes: Sequence[Node]
) -> dict[str, Any]:
    """What the :class:`Embedder` of these options is made with.

    Raises:
        InputError: the pool does not fit the machines, or the encoder takes only shorter texts.
    """
    if options.max_length > encoder.max_tokens:
        raise InputError(
            f"`max_length` {options.max_length}: {encoder.name} takes up to {encoder.max_tokens}"
        )
    on_gpu = resolve_pool(options.pool, nodes).actor.gpus > 0
    return {
        "source": encoder.source,
        "revision": encoder.revision,
        "pooling": options.pooling,
        "max_length": options.max_length,
        "precision": encoder_precision(options.precision, on_gpu),
        "tokens_per_batch": options.tokens_per_batch,
        "device": "cuda" if on_gpu else "cpu",
    }


def cache_key(
    texts: Sequence[str], encoder: Encoder, arguments: dict[str, Any]
) -> dict[str, str | int]:
    """Everything that determines the vectors; the speed options do not."""
    digest = hashlib.sha256()
    for text in texts:
        content = text.encode()
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return {
        "encoder": encoder.name,
        "weights": encoder.weights_hash,
        "pooling": arguments["pooling"],
        "precision": arguments["precision"],
        "max_length": arguments["max_length"],
        "texts": digest.hexdigest()[:16],
        "count": len(texts),
    }
