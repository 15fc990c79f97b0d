"""An encoder of a user's own: the same cache, the same actors, clear refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labs.language.embeddings.embedder import EmbeddingOptions
from labs.language.embeddings.encoders import resolve_encoder
from labs.language.embeddings.vectors import Embeddings, embed, plan
from labs.runtime.errors import InputError

NODES = [{"CPU": 2.0, "GPU": 0.0}]
TEXTS = ["one", "two words", "", "a good deal more words than that", "x y z"] * 4
MODULE = """
calls = []

class Lengths:
    def __init__(self, factor=2, fingerprint="lengths 1"):
        self.factor, self.fingerprint = factor, fingerprint

    def encode(self, texts):
        calls.append(len(texts))
        return [[self.factor * len(text), text.count(" "), 1] for text in texts]

def other():
    return Lengths(3, "lengths 2")

def wrong_shape():
    lengths = Lengths()
    lengths.encode = lambda texts: [[1.0]]
    return lengths

def not_finite():
    lengths = Lengths()
    lengths.encode = lambda texts: [[float("nan")]] * len(texts)
    return lengths

def nameless():
    return Lengths(fingerprint=None)

def failing():
    raise OSError("planted")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_lengths.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "own_lengths"


def run(name: str, cache: Path | None, **options: object) -> Embeddings:
    encoder, note = resolve_encoder(name)
    assert note == ""
    settings = EmbeddingOptions(cache_dir=cache, **options)
    planned = plan(encoder, settings, NODES)
    return embed([TEXTS], planned, in_process=True, progress=False)[0]


def test_its_vectors_go_through_the_cache(module: str, tmp_path: Path) -> None:
    expected = [[2 * len(text), len(text.split(" ")) - 1, 1] for text in TEXTS]
    first = run(f"{module}:Lengths", tmp_path / "cache", chunk_size=3)
    np.testing.assert_array_equal(first.vectors, expected)
    again = run(f"{module}:Lengths", tmp_path / "cache")
    assert again.from_cache and not first.from_cache
    np.testing.assert_array_equal(again.vectors, expected)
    other = run(f"{module}:other", tmp_path / "cache")
    assert not other.from_cache and other.vectors[0, 0] == 9
    import own_lengths

    assert own_lengths.calls == [3, 3, 3, 3, 3, 3, 2, 20]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrong_shape", r"of 20 texts it made an array of shape \[1, 1\]"),
        ("not_finite", r"shape \[20, 1\], and \[20, width\] finite numbers"),
        ("nameless", "gave Lengths: it must have encode.texts. and a text, fingerprint"),
        ("failing", "failed: planted .OSError"),
        ("absent", "has no absent"),
    ],
)
def test_what_cannot_be_used_is_refused(module: str, name: str, message: str) -> None:
    with pytest.raises(InputError, match=f"`encoder` {module}:{name}.*{message}"):
        run(f"{module}:{name}", None)


@pytest.mark.parametrize("option", ["pooling", "max_length", "precision", "backend"])
def test_options_without_effect_are_refused(module: str, option: str) -> None:
    value = {"pooling": "cls", "max_length": 9, "precision": "bfloat16", "backend": "torch"}[option]
    with pytest.raises(InputError, match=f"`{option}` {value} has no effect on `encoder`"):
        run(f"{module}:Lengths", None, **{option: value})
