"""Draw the next character or token from a model's scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from labs.runtime.errors import InputError


@dataclass(frozen=True)
class SamplingConfig:
    """How the next character or token is drawn from a model's scores."""

    temperature: float = 0.8
    """Below 1 favours likely ones, above 1 rare ones; 0 is greedy: always the most likely."""

    top_k: int = 0
    """Draw only from this many most likely ones; 0 means from all."""

    top_p: float = 1.0
    """Draw from the most likely ones that together have this probability (Holtzman et al. 2020)."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise InputError(
                f"`temperature` {self.temperature} must be positive, for instance 0.8, or 0, which"
                " is greedy: always the most likely"
            )
        if self.top_k < 0:
            raise InputError(f"`top_k` {self.top_k} must be at least 1, or 0 for all")
        if not 0 < self.top_p <= 1:
            raise InputError(f"`top_p` {self.top_p} must lie in (0, 1], for instance 0.95")


def filter_scores(scores: Tensor, config: SamplingConfig) -> Tensor:
    """Scores after temperature, top-k and top-p; what is not to be drawn is minus infinity.

    Top-k comes before top-p. The most likely index always remains. The temperature must be positive.

    Args:
        scores: (batch, vocabulary) logits of any floating type.

    Returns:
        (batch, vocabulary) float32.
    """
    scores = scores.float() / config.temperature
    if 0 < config.top_k < scores.shape[-1]:
        least = scores.topk(config.top_k).values[:, -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    if config.top_p < 1:
        ordered, order = scores.sort(descending=True)
        probabilities = ordered.softmax(dim=-1)
        before = probabilities.cumsum(dim=-1) - probabilities  # sum of all that are more likely
        ordered = ordered.masked_fill(before >= config.top_p, -torch.inf)
        scores = torch.empty_like(scores).scatter_(1, order, ordered)
    return scores


def add_gumbel_noise(scores: Tensor, generators: Sequence[torch.Generator | None]) -> Tensor:
    """Scores whose largest index is a draw from their softmax (the Gumbel-max trick, Gumbel 1954).

    Args:
        scores: (batch, vocabulary) float32.
        generators: one per row, each on the device of ``scores``, or one for all rows.
    """
    if len(generators) == 1:
        noise = torch.empty_like(scores).exponential_(generator=generators[0])
    else:
        noise = torch.stack(
            [
                torch.empty_like(row).exponential_(generator=generator)
                for row, generator in zip(scores, generators, strict=True)
            ]
        )
    return scores - noise.clamp_min(1e-30).log()  # -log(Exp(1)) is Gumbel(0, 1); log(0) is avoided


def draw(
    scores: Tensor, config: SamplingConfig, generators: Sequence[torch.Generator | None] = (None,)
) -> Tensor:
    """One index per row of (batch, vocabulary) scores: (batch,) int64.

    Args:
        generators: of the random numbers, see :func:`add_gumbel_noise`.
    """
    if config.temperature == 0:
        return scores.argmax(dim=-1)
    return add_gumbel_noise(filter_scores(scores, config), generators).argmax(dim=-1)
