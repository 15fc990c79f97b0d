"""An encoder over batches of texts without waste; how it computes is an option."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tyro.conf import OmitArgPrefixes

from labs.language.embeddings import openvino_backend
from labs.language.embeddings.cache import expanded
from labs.language.embeddings.encoders import (
    DTYPES,
    Encoder,
    load_model,
    load_tokenizer,
    resolved_precision,
)
from labs.language.embeddings.forward import Forward, Pass
from labs.language.embeddings.packed import torch_forward
from labs.language.embeddings.sentence_form import PoolingChoice
from labs.language.pipeline import Columns, PoolOptions
from labs.runtime.errors import InputError
from labs.runtime.machine.devices import Precision, resolve_device

Backend = Literal["auto", "torch", "openvino"]
TOKENS_PER_BATCH = {"cpu": 1024, "cuda": 32_768}
"""Measured on a core with AVX2 for a 6-layer encoder of width 384: the activations of 500 to 1000
tokens stay in the cache, and passes of 3,500 are a tenth slower. A GPU needs more work per call."""


@dataclass(frozen=True)
class EmbeddingOptions:
    """How texts become vectors."""

    pooling: PoolingChoice = "auto"
    """mean over the real tokens (padding never counts), or the vector of the first token (cls). auto does
    what a sentence-transformers directory says, normalisation included, and else takes the mean."""

    max_length: int = 256
    """Tokens of a text that are read; the rest is cut off, and counted."""

    precision: Precision = "auto"
    """auto computes in bfloat16 if the device has instructions for it, else in float32."""

    backend: Backend = "auto"
    """What computes on a CPU: torch, or openvino, which is faster (pip install 'labs[openvino]'). auto is
    openvino where it is installed. On a GPU torch computes."""

    chunk_size: int = 256
    """Texts that an actor gets at once."""

    tokens_per_batch: int | None = None
    """Tokens, padding included, of one forward pass. Default: 1024 on a CPU, 32768 on a GPU."""

    cache_dir: Path | None = Path("~/.cache/labs/embeddings")
    """Where vectors and converted encoders are kept for the next run, in whichever directory it starts
    ('None' keeps none)."""

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
        encoder: of transformers; what its ``form`` says follows it, whatever ``options.pooling`` is
            (:func:`labs.language.embeddings.vectors.plan` applies that).
        options: the length, the precision and the size of passes count here.
        device: ``auto``, ``cpu`` or ``cuda``.
        conversion: the encoder converted for OpenVINO (made where it is missing); ``None`` computes in
            PyTorch.

    Raises:
        InputError: the encoder cannot be loaded.
    """

    def __init__(
        self,
        encoder: Encoder,
        options: EmbeddingOptions,
        device: str = "auto",
        conversion: Path | None = None,
    ) -> None:
        on = resolve_device(device)
        precision = resolved_precision(options.precision, on)
        self._tokenizer = load_tokenizer(encoder)
        self._forward: Forward
        if conversion is not None:
            conversion = expanded(conversion)
            openvino_backend.ensure_converted(conversion, encoder)
            threads = torch.get_num_threads()
            self._forward = openvino_backend.OpenVINOForward(conversion, precision, threads)
        else:
            model = load_model(encoder, DTYPES[precision])
            self._forward = torch_forward(model, encoder.form.pooling, on)
        self._normalise = encoder.form.normalise
        self._max_length = options.max_length
        self._tokens_per_batch = options.tokens_per_batch or TOKENS_PER_BATCH[on.type]
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
        chosen, start = [], 0
        while start < len(order):
            # Sorted by length: the first text of a pass is its longest.
            size = max(1, self._tokens_per_batch // max(1, int(lengths[order[start]])))
            chosen.append(order[start : start + size])
            start += size
        pooled = self._forward(
            [self._padded([tokens[i] for i in rows], lengths[rows]) for rows in chosen]
        )
        vectors = np.empty((len(order), pooled[0].shape[1]), dtype=np.float32)
        vectors[order] = np.concatenate(pooled)
        if self._normalise:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        truncated = np.array([bool(e.overflowing) for e in encoded.encodings], dtype=bool)
        return {"embedding": vectors, "tokens": lengths, "truncated": truncated}

    def _padded(self, tokens: Sequence[Sequence[int]], lengths: np.ndarray) -> Pass:
        """Texts in falling length as one rectangle."""
        width = max(1, int(lengths[0]))
        ids = np.full((len(tokens), width), self._pad, dtype=np.int64)
        for row, text in zip(ids, tokens, strict=True):
            row[: len(text)] = text
        return Pass(ids, np.arange(width) < np.maximum(lengths, 1)[:, None])
