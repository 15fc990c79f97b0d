"""A trained topic model from Python."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import labs
from labs.language.embeddings.embedder import EmbeddingOptions
from labs.language.embeddings.encoders import PACKAGED, resolve_encoder
from labs.language.embeddings.vectors import embed, plan
from labs.language.topics.classifier import fit_topic_model
from labs.runtime.errors import InputError

SPORT = ["The striker scored twice", "A late goal won the cup", "The coach praised her team"]
MONEY = ["Shares fall after the warning", "The bank raised its rates", "Oil prices climb again"]


def test_a_saved_model_classifies_texts(tmp_path: Path) -> None:
    encoder, _ = resolve_encoder(PACKAGED)
    options = EmbeddingOptions(cache_dir=None, max_length=32, pooling="cls", precision="float32")
    planned = plan(encoder, options, [{"CPU": 1.0, "GPU": 0.0}])
    (found,) = embed([SPORT + MONEY], planned, in_process=True, progress=False)
    labels = np.repeat([0, 1], 3)
    model = fit_topic_model(found.vectors, labels, ("sport", "money"), 1.0, planned)
    model.save(tmp_path / "model.pt")
    loaded = labs.load_topic_model(tmp_path)
    texts = ["The goalkeeper saved the match", "Stocks close at a record"]
    assert loaded.predict(texts) == ["sport", "money"]
    probabilities = loaded.predict_proba(texts)
    assert probabilities.shape == (2, 2) and probabilities.argmax(1).tolist() == [0, 1]
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    trained_on = labs.load_topic_model(tmp_path / "model.pt").predict_proba(SPORT + MONEY)
    np.testing.assert_allclose(trained_on, model.probabilities(found.vectors), atol=1e-3)
    assert loaded.predict([]) == []
    with pytest.raises(InputError, match="one string"):
        loaded.predict("a text")
    dataclasses.replace(model, encoder_hash="0" * 16).save(tmp_path / "model.pt")
    with pytest.raises(InputError, match="other weights"):
        labs.load_topic_model(tmp_path)
