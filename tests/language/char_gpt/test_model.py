"""The transformer: causal, equal to its textbook form, and the same with a cache as without."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from labs.language.char_gpt.dropout import Dropout
from labs.language.char_gpt.model import CharGPT, CharGPTConfig
from labs.language.char_gpt.writing import generate, window_start
from labs.language.sampling import SamplingConfig
from labs.runtime.errors import InputError

VOCABULARY = 20
CONFIG = CharGPTConfig(layers=2, heads=2, width=16, context=16, dropout=0.0)


@pytest.fixture
def model() -> CharGPT:
    """A small model with weights large enough that every input matters."""
    torch.manual_seed(0)
    model = CharGPT(CONFIG, VOCABULARY).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.5)
        else:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def random_text(batch: int, length: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCABULARY, (batch, length), generator=generator)


def textbook_logits(model: CharGPT, tokens: torch.Tensor) -> torch.Tensor:
    """The network once more, head by head, with an explicit mask and softmax."""
    width, heads = CONFIG.width, CONFIG.heads
    size = width // heads
    time = tokens.shape[1]
    x = model.characters.weight[tokens] + model.positions.weight[:time]
    future = torch.triu(torch.ones(time, time, dtype=torch.bool), diagonal=1)
    for block in model.blocks:
        h = layer_norm(x, block.attention_norm)
        weight, bias = block.attention.project_in.weight, block.attention.project_in.bias
        outputs = []
        for head in range(heads):
            rows = [
                slice(part * width + head * size, part * width + (head + 1) * size)
                for part in range(3)
            ]
            q, k, v = (h @ weight[r].T + bias[r] for r in rows)
            scores = q @ k.transpose(1, 2) / math.sqrt(size)
            scores = scores.masked_fill(future, -torch.inf)
            outputs.append(torch.exp(scores - scores.logsumexp(-1, keepdim=True)) @ v)
        out = block.attention.project_out
        x = x + torch.cat(outputs, dim=-1) @ out.weight.T + out.bias
        h = layer_norm(x, block.feed_forward_norm) @ block.expand.weight.T + block.expand.bias
        h = h * 0.5 * (1 + torch.erf(h / math.sqrt(2)))
        x = x + h @ block.contract.weight.T + block.contract.bias
    return layer_norm(x, model.norm) @ model.head.weight.T


def layer_norm(x: torch.Tensor, norm: torch.nn.LayerNorm) -> torch.Tensor:
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / scale * norm.weight + norm.bias


def test_equals_the_textbook_form(model: CharGPT) -> None:
    tokens = random_text(3, 16)
    torch.testing.assert_close(model(tokens), textbook_logits(model, tokens), rtol=1e-4, atol=1e-4)


def test_a_later_character_changes_no_earlier_score(model: CharGPT) -> None:
    tokens = random_text(1, 16)
    before = model(tokens)
    for position in range(16):
        changed = tokens.clone()
        changed[0, position] = (changed[0, position] + 1) % VOCABULARY
        difference = (model(changed) - before).abs().amax(dim=-1)[0]
        assert difference[:position].max() == 0 if position else True
        assert difference[position] > 1e-3
        if position < 15:
            assert difference[position + 1 :].min() > 1e-5  # and every later score hears of it


def test_scores_with_a_cache_equal_those_without(model: CharGPT) -> None:
    tokens = random_text(2, 16)
    expected = model(tokens)
    cache = model.new_cache(2)
    first = model(tokens[:, :5], cache)  # a prompt, then several at once, then one by one
    torch.testing.assert_close(first[:, 0], expected[:, 4], rtol=1e-4, atol=1e-5)
    several = model(tokens[:, 5:8], cache)
    torch.testing.assert_close(several[:, 0], expected[:, 7], rtol=1e-4, atol=1e-5)
    for position in range(8, 16):
        one = model(tokens[:, position : position + 1], cache)
        torch.testing.assert_close(one[:, 0], expected[:, position], rtol=1e-4, atol=1e-5)
    assert cache.length == 16


@pytest.mark.parametrize("prompt_length", [1, 15, 16, 17, 40])
def test_cached_generation_equals_uncached_past_the_context(
    model: CharGPT, prompt_length: int
) -> None:
    """Greedy, character for character, over more than six times the context."""
    prompt = random_text(2, prompt_length)
    cached = torch.stack(list(generate(model, prompt, 100, SamplingConfig(temperature=0))), dim=1)
    text = prompt
    for _ in range(100):
        window = text[:, window_start(text.shape[1], CONFIG.context) :]
        assert CONFIG.context // 2 < window.shape[1] <= CONFIG.context or window.shape == text.shape
        text = torch.cat([text, model(window)[:, -1].argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(cached, text[:, prompt_length:])
    assert len(set(cached[0].tolist())) > 3  # not one character for ever


@pytest.mark.parametrize("context", [1, 2, 3, 7, 16])
def test_the_window_is_fixed_between_moves(context: int) -> None:
    starts = [window_start(length, context) for length in range(1, 200)]
    windows = [length - start for length, start in zip(range(1, 200), starts, strict=True)]
    assert starts[:context] == [0] * context
    assert max(windows) == context
    assert min(windows[context:]) == context // 2 + 1
    moves = sum(now != then for then, now in itertools.pairwise(starts))
    assert moves == -(-(199 - context) // (context - context // 2))


def test_tied_weights_are_one_matrix() -> None:
    config = CharGPTConfig(layers=1, heads=2, width=16, context=8, tie_weights=True)
    tied = CharGPT(config, VOCABULARY)
    free = CharGPT(CharGPTConfig(layers=1, heads=2, width=16, context=8), VOCABULARY)
    assert tied.head.weight is tied.characters.weight
    count = [sum(p.numel() for p in m.parameters()) for m in (tied, free)]
    assert count[1] - count[0] == VOCABULARY * 16


def test_initial_weights_are_those_of_gpt2() -> None:
    torch.manual_seed(0)
    model = CharGPT(CharGPTConfig(layers=8, heads=2, width=64, context=32), 80)
    assert model.characters.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.blocks[3].expand.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.blocks[3].contract.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
    assert model.blocks[3].attention.project_out.weight.std().item() == pytest.approx(
        0.005, rel=0.05
    )
    assert not model.blocks[0].expand.bias.any()
    loss = torch.nn.functional.cross_entropy(
        model.eval()(torch.randint(80, (8, 32))).flatten(0, 1), torch.randint(80, (256,))
    )
    assert loss.item() == pytest.approx(math.log(80), abs=0.05)


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    dropout, x = Dropout(0.2).train(), torch.ones(1001, 333, requires_grad=True)
    y = dropout(x)
    assert (y == 0).float().mean().item() == pytest.approx(0.2, abs=0.003)
    assert y.mean().item() == pytest.approx(1, abs=0.004)
    assert y.max().item() == pytest.approx(1.25, rel=1e-4)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())  # the same values are dropped on the way back
    neighbours = (y[:, 1:] == 0) & (y[:, :-1] == 0)  # four values share a draw: still independent
    assert neighbours.float().mean().item() == pytest.approx(0.04, abs=0.002)
    assert not torch.equal(dropout(x), y)
    assert dropout.eval()(x) is x


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"width": 100, "heads": 6}, "`heads` 5 or `width` 102"),
        ({"dropout": 1.0}, "`dropout`"),
        ({"layers": 0}, "`layers` 0 must be at least 1"),
        ({"context": 0}, "`context`"),
    ],
)
def test_impossible_sizes_are_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CharGPTConfig(**options)
