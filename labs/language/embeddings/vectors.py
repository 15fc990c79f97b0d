"""The vectors of many texts: from the cache, or from a pool of actors and then the cache."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from labs.language.embeddings import openvino_backend
from labs.language.embeddings.cache import EmbeddingCache, expanded
from labs.language.embeddings.embedder import Embedder, EmbeddingOptions
from labs.language.embeddings.encoders import Encoder, resolved_precision
from labs.language.embeddings.own_encoder import OwnEmbedder
from labs.language.embeddings.sentence_form import choose_form
from labs.language.pipeline import (
    Batches,
    Columns,
    Display,
    concatenate,
    map_rows,
    resolve_pool,
)
from labs.runtime.errors import InputError
from labs.runtime.loop.console import say
from labs.runtime.machine.resources import Node


@dataclass(frozen=True)
class Plan:
    """An Embedder's arguments: an encoder, and options in which nothing is left to ``auto``.

    Attributes:
        encoder: its ``form`` is the one that is applied.
        options: their precision is not ``auto``.
        device: ``cpu`` or ``cuda``.
        conversion: the file of the encoder converted for OpenVINO; ``None`` where that does not compute.
    """

    encoder: Encoder
    options: EmbeddingOptions
    device: str = "cpu"
    conversion: Path | None = None


def plan(encoder: Encoder, options: EmbeddingOptions, nodes: Sequence[Node]) -> Plan:
    """Decide how an encoder computes on these machines.

    Raises:
        InputError: the pool does not fit the machines, or the encoder takes only shorter texts.
    """
    on_gpu = resolve_pool(options.pool, nodes).actor.gpus > 0
    if encoder.own:
        _check_own(encoder, options)
        return Plan(encoder, dataclasses.replace(options, precision="float32"))
    if options.max_length > encoder.max_tokens:
        raise InputError(
            f"`max_length` {options.max_length}: {encoder.name} takes up to {encoder.max_tokens}"
        )
    device = "cuda" if on_gpu else "cpu"
    form = choose_form(encoder.form, options.pooling, encoder.name)
    encoder = dataclasses.replace(encoder, form=form)
    precision = resolved_precision(options.precision, torch.device(device))
    options = dataclasses.replace(options, precision=precision)
    conversion = None
    if resolve_backend(options, on_gpu)[0] == "openvino":
        assert options.cache_dir is not None, "resolve_backend sees to it"
        conversion = openvino_backend.conversion_path(options.cache_dir, encoder)
    return Plan(encoder, options, device, conversion)


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
    planned: Plan,
    *,
    keep: bool = True,
    in_process: bool | None = None,
    progress: bool = True,
    verbose: bool = False,
) -> list[Embeddings]:
    """The vectors of each part's texts, from the cache if they are in it, else computed and cached.

    All missing vectors are computed in one run, since starting the actors takes seconds.

    Args:
        parts: sets of texts, such as training and test texts, each with a file of its own in the
            cache.
        planned: the encoder, and how it computes, see :func:`plan`.
        keep: use the cache; a converted encoder is kept in any case.
        in_process: as for :func:`labs.language.pipeline.map_rows`.
        progress: say how far it is, and what computes.

    Raises:
        InputError: an encoder that cannot be loaded, or a cache that cannot be written.
        RuntimeError: the actors failed.
    """
    caches = _caches(parts, planned, keep)
    embeddings = _read(caches)
    if len(embeddings) < len(parts):
        planned, note = _prepared(planned)
        if note and progress:
            say(note)
        caches = _caches(parts, planned, keep)  # other files, if another backend computes after all
        embeddings = _read(caches)
    missing = [index for index in range(len(parts)) if index not in embeddings]
    begun = time.perf_counter()
    runs: Iterator[Columns] = iter(())
    if missing:
        texts = [text for index in missing for text in parts[index]]
        display = Display("texts", progress, verbose)
        runs = _compute(texts, planned, in_process, display)
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


def _compute(
    texts: Sequence[str], planned: Plan, in_process: bool | None, display: Display
) -> Iterator[Columns]:
    options = planned.options
    # A text costs about its length, up to what is read of it; 16 for the fixed part.
    costs = np.array([min(len(text), 8 * options.max_length) + 16 for text in texts])
    own = planned.encoder.own
    return map_rows(
        OwnEmbedder if own else Embedder,
        {"source": planned.encoder.source} if own else vars(planned),
        pa.table({"text": pa.array(texts, pa.large_string())}),
        Batches(options.chunk_size, costs),
        pool=options.pool,
        in_process=in_process,
        display=display,
    )


def _caches(
    parts: Sequence[Sequence[str]], planned: Plan, keep: bool
) -> list[EmbeddingCache | None]:
    directory = planned.options.cache_dir
    if directory is None or not keep:
        return [None] * len(parts)
    return [EmbeddingCache(directory, cache_key(texts, planned)) for texts in parts]


def _read(caches: Sequence[EmbeddingCache | None]) -> dict[int, Embeddings]:
    """What the caches have, by part."""
    kept = [cache.read() if cache is not None else None for cache in caches]
    return {i: Embeddings(**found, seconds=0.0) for i, found in enumerate(kept) if found}


def _prepared(planned: Plan) -> tuple[Plan, str]:
    """Convert the encoder before the actors start, which then find it; the plan, and a note for the user.

    Where that is not possible and the user left the choice, PyTorch takes over.

    Raises:
        InputError: the encoder cannot be converted, and OpenVINO was asked for.
    """
    if planned.encoder.own:
        return planned, ""
    if planned.conversion is None:
        return planned, resolve_backend(planned.options, planned.device == "cuda")[1]
    begun = time.perf_counter()
    try:
        new = openvino_backend.ensure_converted(expanded(planned.conversion), planned.encoder)
    except InputError as error:
        if planned.options.backend == "openvino":
            raise
        note = f"PyTorch computes the embeddings: {error}"
        return dataclasses.replace(planned, conversion=None), note
    if not new:
        return planned, ""
    return planned, f"encoder converted for OpenVINO, once, in {time.perf_counter() - begun:.0f} s"


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


def _check_own(encoder: Encoder, options: EmbeddingOptions) -> None:
    """Refuse what has no effect on an encoder of the user's own."""
    plain = EmbeddingOptions()
    for name in ("pooling", "max_length", "precision", "backend", "tokens_per_batch"):
        if getattr(options, name) != getattr(plain, name):
            raise InputError(
                f"`{name}` {getattr(options, name)} has no effect on `encoder` {encoder.name}, which is"
                " an object of your own: leave it out"
            )


def resolve_backend(options: EmbeddingOptions, on_gpu: bool) -> tuple[str, str]:
    """``torch`` or ``openvino``, and a sentence on the choice or "".

    Raises:
        InputError: OpenVINO is asked for and cannot compute here.
    """
    if options.backend == "torch" or (options.backend == "auto" and on_gpu):
        return "torch", ""
    reason = ""
    if on_gpu:
        reason = "it computes on CPUs, and the actors have a GPU (`gpus_per_actor` 0 leaves it out)"
    elif not openvino_backend.installed():
        reason = "it is not installed (pip install 'labs[openvino]')"
    elif options.cache_dir is None:
        reason = "`cache_dir` None keeps no converted encoder"
    if not reason:
        return "openvino", ""
    if options.backend == "openvino":
        raise InputError(f"`backend` openvino: {reason}")
    return "torch", f"PyTorch computes the embeddings; OpenVINO is faster, but {reason}"


def cache_key(texts: Sequence[str], planned: Plan) -> dict[str, str | int]:
    """Everything that determines the vectors; the speed options do not."""
    digest = hashlib.sha256()
    for text in texts:
        content = text.encode()
        digest.update(len(content).to_bytes(8, "little"))
        digest.update(content)
    return {
        "encoder": planned.encoder.name,
        "weights": planned.encoder.weights_hash,
        "pooling": planned.encoder.form.pooling,
        "normalise": planned.encoder.form.normalise,
        "backend": "torch" if planned.conversion is None else "openvino",
        "precision": planned.options.precision,
        "max_length": planned.options.max_length,
        "texts": digest.hexdigest()[:16],
        "count": len(texts),
    }
