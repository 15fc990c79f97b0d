"""Text from a character GPT, one character after another."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from labs.language.char_gpt.corpora import decode, encode
from labs.language.char_gpt.model import CharGPT
from labs.language.sampling import SamplingConfig, draw


def window_start(length: int, context: int) -> int:
    """The index of the first of ``length`` characters that the model sees when it predicts the next.

    Positions are learned from the start of the window, so a window that moves by one changes every
    key and value in it. It therefore stays in place until the context is full, and then drops the
    older half: what was computed for a character is reused until the next such move.
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
            length; if it is longer than the context, its end counts.
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
        text[:, end] = draw(logits[:, -1], config, [generator])
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
        InputError: the prompt has characters that are not in the vocabulary.
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
