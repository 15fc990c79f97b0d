"""Classify texts with a trained model from Python, as with any scikit-learn classifier."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from labs.language.embeddings.embedder import EmbeddingOptions
from labs.language.embeddings.encoders import Encoder, resolve_encoder
from labs.language.embeddings.vectors import embed, plan
from labs.language.topics.classifier import TopicModel
from labs.language.topics.study import find_model
from labs.runtime.errors import InputError
from labs.runtime.machine.resources import available_nodes
from labs.runtime.options import RuntimeOptions


@dataclasses.dataclass(frozen=True)
class TextClassifier:
    """A topic model with the encoder that it was trained on; computes in this process.

    Attributes:
        model: the classifier of vectors.
        encoder: turns texts into those vectors.
    """

    model: TopicModel
    encoder: Encoder

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the columns of ``predict_proba``."""
        return tuple(self.model.classes)

    def predict_proba(self, texts: Sequence[str]) -> np.ndarray:
        """The probability of each of ``classes``: float64 ``[n, classes]``, rows sum to one."""
        if isinstance(texts, str):
            raise InputError("`texts` is one string: give a list of texts")
        if not len(texts):
            return np.empty((0, len(self.classes)))
        options = EmbeddingOptions(
            max_length=self.model.max_length,
            backend="auto" if self.encoder.own else "torch",
            cache_dir=None,
        )
        nodes = available_nodes(RuntimeOptions())
        encoder = dataclasses.replace(self.encoder, form=self.model.form)
        planned = plan(encoder, options, nodes)
        (found,) = embed([texts], planned, in_process=True, progress=False)
        return self.model.probabilities(found.vectors)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The name of each text's most probable class, ``n`` of them."""
        return [self.classes[i] for i in self.predict_proba(texts).argmax(axis=1)]


def load_topic_model(path: str | Path) -> TextClassifier:
    """The classifier of a run of ``experiments/news_topics.py``.

    Args:
        path: the run's directory, or its ``model.pt``.

    Raises:
        InputError: there is no model, or its encoder is not available or has other weights now.
    """
    model = find_model(Path(path))
    encoder, _ = resolve_encoder(model.encoder)
    if encoder.weights_hash != model.encoder_hash:
        raise InputError(
            f"the encoder {encoder.name} has other weights than the one that {path} was trained on"
            f" (hash {model.encoder_hash})"
        )
    return TextClassifier(model, encoder)
