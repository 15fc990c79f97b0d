"""OpenVINO gives PyTorch's vectors, converts once, and is left out where it cannot compute."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_bert import make_tiny_bert

from labs.language.embeddings import openvino_backend
from labs.language.embeddings.embedder import EmbeddingOptions
from labs.language.embeddings.encoders import Encoder, load_model, resolve_encoder
from labs.language.embeddings.forward import Pass, TorchForward
from labs.language.embeddings.sentence_form import SentenceForm
from labs.language.embeddings.vectors import Embeddings, embed, plan, resolve_backend
from labs.language.pipeline import PoolOptions
from labs.runtime.errors import InputError

NODES = [{"CPU": 2.0, "GPU": 0.0}]
TEXTS = [" ".join(f"word{i % 7}" for i in range(n)) for n in (3, 1, 30, 0, 12, 5, 19, 2)]
needs_openvino = pytest.mark.skipif(
    not openvino_backend.installed(), reason="OpenVINO is not installed"
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return resolve_encoder(str(make_tiny_bert(tmp_path_factory.mktemp("tiny"))))[0]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run(encoder: Encoder, cache: Path | None, **options: object) -> Embeddings:
    settings = {"max_length": 48, "precision": "float32", "tokens_per_batch": 60, **options}
    planned = plan(encoder, EmbeddingOptions(cache_dir=cache, **settings), NODES)
    (found,) = embed([TEXTS], planned, in_process=True)
    return found


def least_cosine(first: np.ndarray, second: np.ndarray) -> float:
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(((first * second).sum(axis=1) / norms).min())


@needs_openvino
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_vectors_are_those_of_pytorch(encoder: Encoder, cache: Path, pooling: str) -> None:
    theirs = run(encoder, None, backend="torch", pooling=pooling)
    exact = run(encoder, cache, backend="openvino", pooling=pooling)
    np.testing.assert_allclose(exact.vectors, theirs.vectors, atol=1e-4)
    np.testing.assert_array_equal(exact.tokens, theirs.tokens)
    half = run(encoder, cache, backend="openvino", pooling=pooling, precision="bfloat16")
    assert least_cosine(half.vectors, theirs.vectors) > 0.999
    if torch.cpu.get_capabilities().get("avx512_bf16"):  # elsewhere it is only a hint
        assert np.abs(half.vectors - exact.vectors).max() > 1e-4


@needs_openvino
def test_passes_come_back_in_order_whatever_the_number_of_threads(
    encoder: Encoder, cache: Path
) -> None:
    path = openvino_backend.conversion_path(cache, encoder)
    openvino_backend.ensure_converted(path, encoder)
    rng = np.random.default_rng(0)
    passes = []
    for tokens in (40, 2, 17, 1, 29, 3, 33, 8):
        lengths = rng.integers(1, tokens + 1, 5)
        passes.append(Pass(rng.integers(5, 900, (5, tokens)), np.arange(tokens) < lengths[:, None]))
    model = load_model(encoder, torch.float32)
    expected = TorchForward(model, "mean", torch.device("cpu"))(passes)
    for threads in (1, 3):
        found = openvino_backend.OpenVINOForward(path, "float32", threads)(passes)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)


@needs_openvino
def test_an_encoder_is_converted_once(
    encoder: Encoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = run(encoder, tmp_path)  # auto
    assert "encoder converted for OpenVINO, once" in capsys.readouterr().out
    (graph,) = tmp_path.glob("*.xml")

    def never(*_: object) -> None:
        raise AssertionError("converted again")

    monkeypatch.setattr(openvino_backend, "_convert", never)
    for vectors in tmp_path.glob("*.parquet"):
        vectors.unlink()
    again = run(encoder, tmp_path)
    assert not again.from_cache and "converted" not in capsys.readouterr().out
    np.testing.assert_array_equal(again.vectors, first.vectors)
    # Other weights, another pooling or other versions are another conversion.
    places = {graph}
    for change in ({"weights_hash": "0" * 16}, {}):
        for pooling in ("mean", "cls"):
            other = dataclasses.replace(encoder, form=SentenceForm(pooling), **change)
            places.add(openvino_backend.conversion_path(tmp_path, other))
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"{name} 99")
    places.add(openvino_backend.conversion_path(tmp_path, encoder))
    assert len(places) == 5


@pytest.mark.slow
@needs_openvino
def test_a_wrong_conversion_is_not_used(
    encoder: Encoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A graph that holds for its example's sizes only, say, or reads the padding."""

    def forward(self: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=ids).last_hidden_state.mean(1)

    monkeypatch.setattr(openvino_backend._Graph, "forward", forward)
    theirs = run(encoder, None, backend="torch")
    found = run(encoder, tmp_path)
    said = capsys.readouterr().out
    assert "PyTorch computes the embeddings: " in said and "its vectors are not PyTorch's" in said
    np.testing.assert_array_equal(found.vectors, theirs.vectors)
    assert not list(tmp_path.glob("*.xml")) and not list(tmp_path.glob(".*"))
    assert run(encoder, tmp_path).from_cache  # under PyTorch's name
    with pytest.raises(InputError, match="cannot be converted for OpenVINO"):
        run(encoder, tmp_path / "other", backend="openvino")


@needs_openvino
def test_a_full_directory_is_reported(encoder: Encoder, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="`cache_dir` .* cannot be written"):
        run(encoder, tmp_path / "file" / "below", backend="openvino")


def test_without_openvino_pytorch_computes_and_one_line_reports_it(
    encoder: Encoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # neither found nor imported
    found = run(encoder, tmp_path)
    lines = [line for line in capsys.readouterr().out.splitlines() if "OpenVINO" in line]
    assert len(lines) == 1 and "not installed (pip install 'labs[openvino]')" in lines[0]
    np.testing.assert_array_equal(found.vectors, run(encoder, None, backend="torch").vectors)
    assert run(encoder, tmp_path).from_cache and "OpenVINO" not in capsys.readouterr().out
    with pytest.raises(InputError, match="`backend` openvino: it is not installed"):
        run(encoder, tmp_path, backend="openvino")


def test_a_gpu_stays_with_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_backend, "installed", lambda: True)
    options = EmbeddingOptions(pool=PoolOptions(gpus_per_actor=1.0))
    assert resolve_backend(options, on_gpu=True) == ("torch", "")
    assert resolve_backend(options, on_gpu=False) == ("openvino", "")
    with pytest.raises(InputError, match="`backend` openvino: it computes on CPUs"):
        resolve_backend(dataclasses.replace(options, backend="openvino"), on_gpu=True)
    nowhere = EmbeddingOptions(cache_dir=None)
    assert "`cache_dir` None" in resolve_backend(nowhere, on_gpu=False)[1]


@needs_openvino
def test_two_processes_do_not_share_a_core(encoder: Encoder, cache: Path) -> None:
    """With pinning, which is OpenVINO's default, a process binds its threads to cores."""
    path = openvino_backend.conversion_path(cache, encoder)
    openvino_backend.ensure_converted(path, encoder)
    forward = openvino_backend.OpenVINOForward(path, "float32", 1)
    assert forward._compiled.get_property("ENABLE_CPU_PINNING") is False
