"""Text from a character GPT, one character after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from labs.language.char_gpt.corpora import decode, encode
from labs.language.char_gpt.model import CharGPT
from labs.runtime.errors import InputError


@dataclass(frozen=True)
class SamplingConfig:
    """How the next character or token is drawn from a model's scores."""

    temperature: float = 0.8
    """Below 1 the likelier ones gain, above 1 the rarer; 0 means greedy, always the likeliest."""

    top_k: int = 0
    """Draw from so many likeliest ones only; 0 means from all."""

    top_p: float = 1.0
    """Draw from the likeliest ones that together have this probability (Holtzman et al. 2020)."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise InputError(
                f"--temperature {self.temperature} must be positive, for instance 0.8, or 0, which"
                " means greedy: always the likeliest"
            )
        if self.top_k < 0:
            raise InputError(f"--top-k {self.top_k} must be at least 1, or 0 for all")
        if not 0 < self.top_p <= 1:
            raise InputError(f"--top-p {self.top_p} must lie in (0, 1], for instance 0.95")


def draw(logits: Tensor, config: SamplingConfig, generator: torch.Generator | None) -> Tensor:
    """One index per row of (batch, vocabulary) scores: (batch,) int64.

    Top-k comes before top-p. The likeliest index always remains.
    """
    if config.temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits.float() / config.temperature
    if 0 < config.top_k < logits.shape[-1]:
        least = logits.topk(config.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if config.top_p < 1:
        ordered, order = logits.sort(descending=True)
        probabilities = ordered.softmax(dim=-1)
        likelier = probabilities.cumsum(dim=-1) - probabilities  # what all before one have together
        ordered = ordered.masked_fill(likelier >= config.top_p, -torch.inf)
        logits = torch.empty_like(logits).scatter_(1, order, ordered)
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)[:, 0]


def window_start(length: int, context: int) -> int:
    """The first of ``length`` characters that the model still sees when it predicts the next.

    Positions are learned from the start of the window, so a window that moves by one changes every
    key and value in it. It therefore stands still until the context is full, and then leaves half
    of it behind: all that is computed for a character serves until the next such move.
    """
    if length <= context:
        return 0
    move = context - context // 2
    return -(-(length - context) // move) * move


@torch.inference_mode()
def generate(
    model: CharGPT,
    prompt: Tensor,
    length: int,
    config: SamplingConfig,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Continue sequences of characters.

    Args:
        model: in evaluation mode.
        prompt: (batch, time) int64, on the model's device; at least one character each, of any
            length: of more than the context the end counts.
        length: characters to add.
        config: how each is drawn.
        generator: of the random numbers, on the model's device.

    Yields:
        (batch,) int64, the next character of every sequence.
    """
    context = model.config.context
    batch, given = prompt.shape
    text = torch.cat([prompt, prompt.new_empty(batch, length)], dim=1)
    cache, start = model.new_cache(batch), window_start(given, context)
    for end in range(given, given + length):
        if window_start(end, context) != start:
            start = window_start(end, context)
            cache.length = 0
        logits = model(text[:, start + cache.length : end], cache)
        text[:, end] = draw(logits[:, -1], config, generator)
        yield text[:, end]


def write(
    model: CharGPT,
    vocabulary: str,
    length: int,
    config: SamplingConfig,
    prompt: str = "",
    seed: int = 0,
) -> Iterator[str]:
    """The characters that follow ``prompt``, one by one.

    With no prompt, the text begins after the vocabulary's first character, which is the line break
    where the text had one.

    Raises:
        InputError: the prompt has characters that the vocabulary lacks.
    """
    device = model.head.weight.device
    indices = torch.from_numpy(encode(prompt or vocabulary[0], vocabulary)).to(device)
    generator = torch.Generator(device).manual_seed(seed)
    training = model.training
    model.eval()
    try:
        for index in generate(model, indices[None], length, config, generator):
            yield decode(index.cpu().numpy(), vocabulary)
    finally:
        model.train(training)
