"""How an Embedder cuts a batch into forward passes, and what decides its vectors and their names."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_bert import make_tiny_bert

from labs.language.embeddings import openvino_backend
from labs.language.embeddings.embedder import Embedder, EmbeddingOptions
from labs.language.embeddings.encoders import Encoder, load_model, resolve_encoder
from labs.language.embeddings.forward import Pass, random_passes
from labs.language.embeddings.sentence_form import SentenceForm, choose_form
from labs.language.embeddings.vectors import cache_key, plan

NODES = [{"CPU": 2.0, "GPU": 0.0}]
LENGTHS = (3, 17, 1, 30, 0, 8, 30, 5, 22, 2)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return resolve_encoder(str(make_tiny_bert(tmp_path_factory.mktemp("tiny"))))[0]


def texts() -> np.ndarray:
    """Ten texts, not in the order of their lengths, each with words of its own."""
    rng = np.random.default_rng(6)
    words = ["sun", "moon", "river", "stone", "king", "queen", "bread", "salt", "wind"]
    return np.array([" ".join(rng.choice(words, n)) for n in LENGTHS], dtype=object)


def test_each_text_gets_its_own_vector_whatever_the_order(encoder: Encoder) -> None:
    """Rows of a batch come unsorted where a worker is called by itself."""
    options = EmbeddingOptions(precision="float32", max_length=20, tokens_per_batch=45)
    embedder = Embedder(encoder, options)
    found = embedder({"text": texts()})
    for row, text in enumerate(texts()):
        (alone,) = embedder({"text": np.array([text], dtype=object)})["embedding"]
        np.testing.assert_allclose(found["embedding"][row], alone, atol=1e-5)
    assert found["tokens"].tolist() == [min(n + 2, 20) for n in LENGTHS]
    assert found["truncated"].tolist() == [n + 2 > 20 for n in LENGTHS]
    distances = found["embedding"][:, None] - found["embedding"]
    apart = np.linalg.norm(distances, axis=2)[np.triu_indices(len(LENGTHS), 1)]
    assert apart.min() > 1e-2  # a wrong row would show
    normalising = dataclasses.replace(encoder, form=SentenceForm("mean", normalise=True))
    unit = Embedder(normalising, options)({"text": texts()})["embedding"]
    lengths = np.linalg.norm(found["embedding"], axis=1, keepdims=True)
    assert np.abs(lengths - 1).min() > 0.1
    np.testing.assert_allclose(unit, found["embedding"] / lengths, atol=1e-5)


def test_passes_hold_the_tokens_that_are_asked_for(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many texts as fit, padding included; one that is longer is a pass of its own."""
    embedder = Embedder(
        encoder, EmbeddingOptions(precision="float32", max_length=64, tokens_per_batch=30)
    )
    passes: list[Pass] = []
    forward = embedder._forward

    def recorded(asked: list[Pass]) -> list[np.ndarray]:
        passes.extend(asked)
        return forward(asked)

    monkeypatch.setattr(embedder, "_forward", recorded)
    embedder({"text": texts()})
    lengths = sorted((n + 2 for n in LENGTHS), reverse=True)  # 32 32 24 19 10 7 5 4 3 2
    shapes = [one.ids.shape for one in passes]
    assert shapes == [(1, 32), (1, 32), (1, 24), (1, 19), (3, 10), (3, 4)]
    assert [int(n) for one in passes for n in one.mask.sum(axis=1)] == lengths


def test_every_file_that_decides_the_vectors_decides_the_hash(tmp_path: Path) -> None:
    directory = tmp_path / "tiny"
    directory.mkdir()
    make_tiny_bert(directory)
    before = resolve_encoder(str(directory))[0].weights_hash

    def change(name: str, key: str, value: object) -> str:
        other = tmp_path / name
        shutil.copytree(directory, other)
        content = json.loads((other / name).read_text())
        assert content.get(key) != value
        (other / name).write_text(json.dumps({**content, key: value}))
        return resolve_encoder(str(other))[0].weights_hash

    changed = {
        change("config.json", "layer_norm_eps", 0.5),
        change("tokenizer_config.json", "do_lower_case", False),
        change("tokenizer.json", "normalizer", None),
    }
    assert len({before, *changed}) == 4
    shutil.copytree(directory, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text("the same model")
    assert resolve_encoder(str(tmp_path / "copy"))[0].weights_hash == before


def test_the_longest_length_that_an_encoder_takes_is_taken(encoder: Encoder) -> None:
    assert plan(encoder, EmbeddingOptions(max_length=64), NODES).options.max_length == 64


def test_a_cache_s_name_has_the_backend_and_the_form(encoder: Encoder, tmp_path: Path) -> None:
    options = EmbeddingOptions(backend="torch", precision="float32", max_length=48)
    planned = plan(encoder, options, NODES)
    others = [
        dataclasses.replace(planned, conversion=tmp_path / "x.xml"),
        dataclasses.replace(planned, options=dataclasses.replace(options, precision="bfloat16")),
        dataclasses.replace(planned, options=dataclasses.replace(options, max_length=47)),
        *(
            dataclasses.replace(planned, encoder=dataclasses.replace(encoder, **change))
            for change in (
                {"form": SentenceForm("cls")},
                {"form": SentenceForm("mean", normalise=True)},
                {"weights_hash": "0" * 16},
            )
        ),
    ]
    keys = {json.dumps(cache_key(["a", "b"], one)) for one in [planned, *others]}
    assert len(keys) == 7
    texts = (["a", "b"], ["b", "a"], ["A", "b"], ["a ", "b"], ["ab", ""], ["a", "b", ""])
    assert len({json.dumps(cache_key(part, planned)) for part in texts}) == len(texts)
    assert cache_key(["a", "b"], planned) == cache_key(("a", "b"), planned)


def test_the_fingerprint_of_an_own_encoder_decides_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user changes it when the vectors change; the name stays."""
    (tmp_path / "own_hashes.py").write_text(
        "class Own:\n    fingerprint = 'one'\n\n    def encode(self, texts):\n        return [[1.0]]\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    first = resolve_encoder("own_hashes:Own")[0].weights_hash
    assert resolve_encoder("own_hashes:Own")[0].weights_hash == first
    monkeypatch.setattr(sys.modules["own_hashes"].Own, "fingerprint", "two")
    assert resolve_encoder("own_hashes:Own")[0].weights_hash != first


def test_a_pooling_of_the_user_s_choice_is_the_plain_transformer() -> None:
    own = SentenceForm("cls", normalise=True)
    assert choose_form(own, "auto", "x") == own
    assert choose_form(own, "mean", "x") == SentenceForm("mean", normalise=False)


def test_a_conversion_that_is_right_for_its_example_alone_is_refused(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a sliding window: short texts do not show it."""
    model = load_model(encoder, torch.float32)
    example = random_passes(model)[0].ids.shape[1]

    class ShortSighted:
        def __init__(self, converted: object, precision: str, threads: int) -> None:
            self.forward = openvino_backend.TorchForward(model, "mean", torch.device("cpu"))

        def __call__(self, passes: list[Pass]) -> list[np.ndarray]:
            return self.forward([Pass(p.ids[:, :example], p.mask[:, :example]) for p in passes])

    monkeypatch.setattr(openvino_backend, "OpenVINOForward", ShortSighted)
    with pytest.raises(ValueError, match="its vectors are not PyTorch's"):
        openvino_backend._check(None, model, "mean")
