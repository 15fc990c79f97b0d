"""Passes without padding: used where their vectors are those of padded ones, and nowhere else."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2Model,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    RobertaConfig,
    RobertaModel,
)

from labs.language.embeddings import packed
from labs.language.embeddings.forward import Pass, TorchForward, least_cosine, random_passes
from labs.language.embeddings.packed import (
    REFUSED,
    PackedForward,
    pack,
    packed_attention,
    torch_forward,
)

CPU = torch.device("cpu")
SIZES = {
    "vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "intermediate_size": 48, "max_position_embeddings": 330, "initializer_range": 0.3,
}  # fmt: skip


def make(name: str) -> Any:
    """A small encoder with random weights, large enough for every part to matter."""
    torch.manual_seed(3)
    narrow = {"vocab_size": 90, "initializer_range": 0.3}
    made = {
        "bert": lambda: BertModel(BertConfig(**SIZES)),
        "roberta": lambda: RobertaModel(RobertaConfig(**SIZES)),
        "distilbert": lambda: DistilBertModel(
            DistilBertConfig(dim=32, n_layers=2, n_heads=4, hidden_dim=48, **narrow)
        ),
        "mpnet": lambda: MPNetModel(MPNetConfig(**SIZES)),
        "modernbert": lambda: ModernBertModel(
            ModernBertConfig(
                **{**SIZES, "num_hidden_layers": 3}, local_attention=32, pad_token_id=0
            )
        ),
        "gpt2": lambda: GPT2Model(GPT2Config(n_embd=32, n_layer=2, n_head=4, **narrow)),
    }
    return made[name]().eval()


def text_by_text(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    starts: torch.Tensor,
    key_starts: torch.Tensor,
    longest: int,
    longest_key: int,
    *,
    scale: float,
) -> torch.Tensor:
    """What the GPU's kernel computes (Vaswani et al. 2017), written out; ``[tokens, heads, width]``."""
    assert starts.tolist() == key_starts.tolist() and longest == longest_key
    bounds = starts.tolist()
    assert max(np.diff(bounds)) == longest and bounds[-1] == len(query)
    parts = []
    for begin, end in pairwise(bounds):
        q, k, v = (part[begin:end].transpose(0, 1) for part in (query, key, value))
        parts.append((((q @ k.mT) * scale).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(parts)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "varlen_attn", text_by_text)


def passes() -> list[Pass]:
    """Other lengths and tokens than those the decision is made on."""
    rng = np.random.default_rng(8)
    found = []
    for texts, tokens in ((6, 9), (1, 1), (5, 70), (3, 200)):
        lengths = rng.permutation(np.append(rng.integers(1, tokens + 1, texts - 1), tokens))
        found.append(
            Pass(rng.integers(5, 90, (texts, tokens)), np.arange(tokens) < lengths[:, None])
        )
    return found


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert"])
def test_packed_vectors_are_the_padded_ones(kernel: None, name: str, pooling: str) -> None:
    model = make(name)
    padded = TorchForward(model, pooling, CPU)
    expected = padded(passes())
    forward = pack(model, pooling, CPU, padded)
    assert isinstance(forward, PackedForward)
    for ours, theirs in zip(forward(passes()), expected, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, atol=2e-5)


@pytest.mark.parametrize("name", ["mpnet", "modernbert", "gpt2"])
def test_what_is_more_than_plain_attention_stays_padded(kernel: None, name: str) -> None:
    """A bias by the distance of tokens, a sliding window, and a look at the past alone."""
    model = make(name)
    padded = TorchForward(model, "mean", CPU)
    expected = padded(passes())
    assert pack(model, "mean", CPU, padded) is padded
    for ours, theirs in zip(padded(passes()), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_texts_that_see_one_another_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_at_once(query, key, value, *_: object, scale: float) -> torch.Tensor:
        bounds = torch.tensor([0, len(query)])
        return text_by_text(query, key, value, bounds, bounds, len(query), len(query), scale=scale)

    monkeypatch.setattr(packed, "varlen_attn", all_at_once)
    model = make("bert")
    padded = TorchForward(model, "mean", CPU)
    assert pack(model, "mean", CPU, padded) is padded


@pytest.mark.parametrize("asked", [*REFUSED, "causal", "mask"])
def test_what_the_kernel_does_not_do_is_refused(kernel: None, asked: str) -> None:
    """Beside the comparison of vectors, which a window of more than 300 tokens would pass."""
    query, key, value = torch.randn(3, 1, 2, 7, 4)
    starts = torch.tensor([0, 3, 7])
    given = {"cu_seq_lens_q": starts, "cu_seq_lens_k": starts, "max_length_q": 4, "max_length_k": 4}
    module = torch.nn.Module()
    mixed, _ = packed_attention(module, query, key, value, None, scaling=0.5, **given)
    assert mixed.shape == (1, 7, 2, 4)
    module.is_causal = asked == "causal"
    mask = torch.ones(7, 7) if asked == "mask" else None
    if asked in REFUSED:
        given[asked] = 400
    with pytest.raises(NotImplementedError):
        packed_attention(module, query, key, value, mask, scaling=0.5, **given)


def test_only_a_gpu_in_bfloat16_packs(kernel: None) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        forward = torch_forward(make("bert").to(dtype), "mean", CPU)
        assert isinstance(forward, TorchForward)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "modernbert"])
def test_the_kernel_of_a_gpu(name: str) -> None:
    device = torch.device("cuda")
    exact = TorchForward(make(name), "mean", CPU)(random_passes(make(name)))
    forward = torch_forward(make(name).to(torch.bfloat16), "mean", device)
    assert isinstance(forward, TorchForward if name == "modernbert" else PackedForward)
    assert least_cosine(forward(random_passes(make(name))), exact) > 0.99
    whole = torch_forward(make(name), "mean", device)
    assert isinstance(whole, TorchForward)
    assert least_cosine(whole(random_passes(make(name))), exact) > 0.9999
