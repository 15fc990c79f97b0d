"""The vectors of many texts: from the cache, or from a pool of actors and then the cache."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from labs.language.embeddings import openvino_backend
from labs.language.embeddings.cache import EmbeddingCache, expanded
from labs.language.embeddings.embedder import Embedder, EmbeddingOptions
from labs.language.embeddings.encoders import Encoder, encoder_precision
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
    keep: bool = True,
    in_process: bool | None = None,
    progress: bool = True,
    verbose: bool = False,
) -> list[Embeddings]:  # what is wanted, then how: the last four are rarely given
    """The vectors of each part's texts, from the cache if they are in it, else computed and cached.

    All missing vectors are computed in one run, since starting the actors takes seconds.

    Args:
        parts: sets of texts, such as training and test texts, each with a file of its own in the
            cache.
        nodes: the machines, see ``labs.runtime.machine.resources.available_nodes``.
        keep: use the cache; a converted encoder is kept in any case.
        in_process: as for :func:`labs.language.pipeline.map_rows`.
        progress: say how far it is, and what computes.

    Raises:
        InputError: bad options, an encoder that cannot be loaded, or a cache that cannot be written.
        RuntimeError: the actors failed.
    """
    arguments = embedder_arguments(encoder, options, nodes)
    caches = _caches(parts, encoder, options, arguments, keep)
    embeddings = _read(caches)
    if len(embeddings) < len(parts):
        note = ""
        if not encoder.own:
            note = resolve_backend(options, arguments["device"] == "cuda")[1]
        if arguments["conversion"] is not None:
            note = _prepare(arguments, options)
            if arguments["conversion"] is None:  # PyTorch computes after all: other files
                caches = _caches(parts, encoder, options, arguments, keep)
                embeddings = _read(caches)
        if note and progress:
            say(note)
    missing = [index for index in range(len(parts)) if index not in embeddings]
    begun = time.perf_counter()
    runs: Iterator[Columns] = iter(())
    if missing:
        texts = [text for index in missing for text in parts[index]]
        display = Display("texts", progress, verbose)
        own = {"source": encoder.source} if encoder.own else None
        runs = _compute(texts, own or arguments, options, in_process, display)
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
    texts: Sequence[str],
    arguments: Mapping[str, Any],
    options: EmbeddingOptions,
    in_process: bool | None,
    display: Display,
) -> Iterator[Columns]:
    # A text costs about its length, up to what is read of it; 16 for the fixed part.
    costs = np.array([min(len(text), 8 * options.max_length) + 16 for text in texts])
    return map_rows(
        Embedder if "conversion" in arguments else OwnEmbedder,
        arguments,
        pa.table({"text": pa.array(texts, pa.large_string())}),
        Batches(options.chunk_size, costs),
        pool=options.pool,
        in_process=in_process,
        display=display,
    )


def _caches(
    parts: Sequence[Sequence[str]],
    encoder: Encoder,
    options: EmbeddingOptions,
    arguments: Mapping[str, Any],
    keep: bool,
) -> list[EmbeddingCache | None]:
    if options.cache_dir is None or not keep:
        return [None] * len(parts)
    keys = [cache_key(texts, encoder, arguments) for texts in parts]
    return [EmbeddingCache(options.cache_dir, key) for key in keys]


def _read(caches: Sequence[EmbeddingCache | None]) -> dict[int, Embeddings]:
    """What the caches have, by part."""
    kept = [cache.read() if cache is not None else None for cache in caches]
    return {i: Embeddings(**found, seconds=0.0) for i, found in enumerate(kept) if found}


def _prepare(arguments: dict[str, Any], options: EmbeddingOptions) -> str:
    """Convert the encoder before the actors start, who then find it; what there is to say.

    Where that is not possible and the user left the choice, PyTorch takes over.

    Raises:
        InputError: the encoder cannot be converted, and OpenVINO was asked for.
    """
    begun = time.perf_counter()
    try:
        new = openvino_backend.ensure_converted(
            expanded(arguments["conversion"]),
            arguments["source"],
            arguments["revision"],
            arguments["pooling"],
        )
    except InputError as error:
        if options.backend == "openvino":
            raise
        arguments["conversion"] = None
        return f"PyTorch computes the embeddings: {error}"
    if not new:
        return ""
    return f"encoder converted for OpenVINO, once, in {time.perf_counter() - begun:.0f} s"


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
    if encoder.own:
        _check_own(encoder, options)
        resolve_pool(options.pool, nodes)
        return {
            "source": encoder.source,
            "pooling": "mean",
            "normalise": False,
            "precision": "float32",
            "max_length": options.max_length,
            "device": "own",
            "conversion": None,
        }
    if options.max_length > encoder.max_tokens:
        raise InputError(
            f"`max_length` {options.max_length}: {encoder.name} takes up to {encoder.max_tokens}"
        )
    form = choose_form(encoder.form, options.pooling, encoder.name)
    on_gpu = resolve_pool(options.pool, nodes).actor.gpus > 0
    conversion = None
    if resolve_backend(options, on_gpu)[0] == "openvino":
        assert options.cache_dir is not None, "resolve_backend sees to it"
        conversion = openvino_backend.conversion_path(
            options.cache_dir, encoder.weights_hash, form.pooling
        )
    return {
        "source": encoder.source,
        "revision": encoder.revision,
        "pooling": form.pooling,
        "normalise": form.normalise,
        "max_length": options.max_length,
        "precision": encoder_precision(options.precision, on_gpu),
        "tokens_per_batch": options.tokens_per_batch,
        "device": "cuda" if on_gpu else "cpu",
        "conversion": conversion,
    }


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


def cache_key(
    texts: Sequence[str], encoder: Encoder, arguments: Mapping[str, Any]
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
        "normalise": arguments["normalise"],
        "backend": "torch" if arguments["conversion"] is None else "openvino",
        "precision": arguments["precision"],
        "max_length": arguments["max_length"],
        "texts": digest.hexdigest()[:16],
        "count": len(texts),
    }
