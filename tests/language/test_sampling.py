"""Filters and draws, against a loop that is written out here."""

from __future__ import annotations

import math

import pytest
import torch

from labs.language.sampling import SamplingConfig, add_gumbel_noise, draw, filter_scores
from labs.runtime.errors import InputError


def kept(scores: list[float], config: SamplingConfig) -> dict[int, float]:
    """The probability of each index that may be drawn (Holtzman et al. 2020, section 3.1)."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    order = order[: config.top_k or None]
    weights = {i: math.exp(scores[i] / config.temperature) for i in order}
    total, before, nucleus = sum(weights.values()), 0.0, {}
    for i in order:
        if before / total < config.top_p:
            nucleus[i] = weights[i]
        before += weights[i]
    return {i: weight / sum(nucleus.values()) for i, weight in nucleus.items()}


@pytest.mark.parametrize("temperature", [0.4, 1.0, 1.7])
@pytest.mark.parametrize(("top_k", "top_p"), [(0, 1.0), (3, 1.0), (0, 0.8), (6, 0.7), (40, 0.5)])
def test_what_may_be_drawn_and_how_often(temperature: float, top_k: int, top_p: float) -> None:
    """The temperature counts for top-p, and top-p for what top-k has left."""
    config = SamplingConfig(temperature, top_k, top_p)
    scores = 2 * torch.randn(50, 23, generator=torch.Generator().manual_seed(4))
    found = filter_scores(scores, config).softmax(dim=-1)
    for row, probabilities in zip(scores.tolist(), found.tolist(), strict=True):
        expected = kept(row, config)
        assert {i for i, p in enumerate(probabilities) if p > 0} == expected.keys()
        for i, probability in expected.items():
            assert probabilities[i] == pytest.approx(probability, rel=1e-4)


def test_each_row_has_the_random_numbers_of_its_own_generator() -> None:
    scores = torch.randn(4, 9, generator=torch.Generator().manual_seed(1))

    def streams(*seeds: int) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    together = add_gumbel_noise(scores, streams(5, 6, 7, 5))
    for number, seed in enumerate((5, 6, 7, 5)):
        alone = add_gumbel_noise(scores[number : number + 1], streams(seed))
        assert torch.equal(together[number : number + 1], alone)
    noise = together - scores
    torch.testing.assert_close(noise[0], noise[3])
    assert (noise[0] - noise[1]).abs().min() > 0


def test_temperature_zero_is_the_most_likely() -> None:
    logits = torch.randn(50, 9)
    assert torch.equal(draw(logits, SamplingConfig(temperature=0)), logits.argmax(-1))


def frequencies(logits: torch.Tensor, config: SamplingConfig) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    drawn = draw(logits.expand(40_000, -1), config, [generator])
    return torch.bincount(drawn, minlength=logits.shape[-1]) / 40_000


def test_draws_follow_temperature_top_k_and_top_p() -> None:
    probabilities = torch.tensor([0.1, 0.4, 0.05, 0.3, 0.15])
    logits = probabilities.log()[None] + 3

    plain = frequencies(logits, SamplingConfig(temperature=1))
    torch.testing.assert_close(plain, probabilities, atol=0.01, rtol=0)

    cold = frequencies(logits, SamplingConfig(temperature=0.5))
    squares = probabilities**2
    torch.testing.assert_close(cold, squares / squares.sum(), atol=0.01, rtol=0)

    two = frequencies(logits, SamplingConfig(temperature=1, top_k=2))
    torch.testing.assert_close(two, torch.tensor([0, 4, 0, 3, 0]) / 7, atol=0.01, rtol=0)

    # 0.4 + 0.3 fall short of 0.75; with 0.15 they pass it: three remain
    nucleus = frequencies(logits, SamplingConfig(temperature=1, top_p=0.75))
    torch.testing.assert_close(nucleus, torch.tensor([0, 8, 0, 6, 3]) / 17, atol=0.01, rtol=0)

    one = frequencies(logits, SamplingConfig(temperature=1, top_p=1e-9))
    assert one.tolist() == [0, 1, 0, 0, 0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": -1.0}, "greedy"),
        ({"temperature": float("nan")}, "`temperature`"),
        ({"top_p": 0.0}, r"\(0, 1\]"),
        ({"top_p": 1.5}, r"\(0, 1\]"),
        ({"top_k": -3}, "`top_k` -3"),
    ],
)
def test_impossible_sampling_is_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        SamplingConfig(**options)
