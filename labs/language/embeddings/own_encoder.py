"""An encoder of a user's own: any object that maps texts to vectors, named as ``module:factory``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from labs.language.hub import first_line
from labs.language.pipeline import Columns
from labs.plugins import load_object
from labs.runtime.errors import InputError


def is_own(name: str) -> bool:
    """Whether a name is of the form ``module:factory``, which no directory or hub name is."""
    module, _, factory = name.partition(":")
    return all(part.isidentifier() for part in [*module.split("."), *factory.split(".")])


def load_own_encoder(name: str) -> tuple[Callable[[Sequence[str]], Any], str]:
    """The function from texts to vectors, and its fingerprint.

    The factory is called without arguments. What it gives has ``encode(texts)``, which returns
    ``[n, width]`` in the order of the texts, and ``fingerprint``, a text that changes whenever the
    vectors would: the cache keeps them under it.

    Raises:
        InputError: there is no such factory, it fails, or it gives something else.
    """
    factory = load_object(name, "encoder")
    try:
        made = factory()
    except Exception as error:  # the user's own code
        raise InputError(
            f"`encoder` {name} failed: {first_line(error)} ({type(error).__name__})"
        ) from error
    fingerprint = getattr(made, "fingerprint", None)
    if not callable(getattr(made, "encode", None)) or not isinstance(fingerprint, str):
        raise InputError(
            f"`encoder` {name} gave {type(made).__name__}: it must have encode(texts) and a text,"
            " fingerprint, that changes whenever the vectors do"
        )
    return made.encode, fingerprint


class OwnEmbedder:
    """A worker of ``map_rows`` around a user's encoder, created in each actor.

    Args:
        source: ``module:factory``.

    Raises:
        InputError: see :func:`load_own_encoder`.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._encode, _ = load_own_encoder(source)

    def __call__(self, batch: Columns) -> Columns:
        """As for ``Embedder``; how many tokens were read is not known: 0, and nothing truncated.

        Raises:
            InputError: the result is not a finite number in each of ``[n, width]`` places.
        """
        count = len(batch["text"])
        vectors = np.asarray(self._encode(batch["text"].tolist()), dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != count or not np.isfinite(vectors).all():
            raise InputError(
                f"`encoder` {self._source}: of {count} texts it made an array of shape"
                f" {list(vectors.shape)}, and [{count}, width] finite numbers are needed"
            )
        return {
            "embedding": vectors,
            "tokens": np.zeros(count, np.int32),
            "truncated": np.zeros(count, bool),
        }
