"""The encoder's forward passes in PyTorch; the pooling and the check that every other form of them shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from labs.language.embeddings.sentence_form import Pooling


class Pass(NamedTuple):
    """Texts that go through the encoder together."""

    ids: np.ndarray
    """int64 ``[n, tokens]``, padded at the end."""

    mask: np.ndarray
    """bool ``[n, tokens]``, true at real tokens, at least one per text."""


class Forward(Protocol):
    """The encoder and its pooling, on whatever computes it."""

    def __call__(self, passes: Sequence[Pass]) -> list[np.ndarray]:
        """The pooled vectors of each pass, float32 ``[n, width]``."""
        ...


class TorchForward:
    """One pass after another in PyTorch, on a CPU or a GPU.

    Args:
        model: an encoder in evaluation mode.
        pooling: ``mean`` or ``cls``.
        device: where it computes.
    """

    def __init__(self, model: Any, pooling: Pooling, device: torch.device) -> None:
        self._model = model.to(device)
        self._pooling: Pooling = pooling
        self._device = device

    @torch.inference_mode()
    def __call__(self, passes: Sequence[Pass]) -> list[np.ndarray]:
        """The pooled vectors of each pass, float32 ``[n, width]``."""
        return [self._one(*one) for one in passes]

    def _one(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        real = torch.from_numpy(mask).to(self._device)
        hidden = self._model(
            input_ids=torch.from_numpy(ids).to(self._device), attention_mask=real.long()
        ).last_hidden_state
        return pool_tokens(hidden.float(), real, self._pooling).cpu().numpy()


def pool_tokens(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """One vector per text.

    Args:
        hidden: ``[n, tokens, width]``.
        mask: bool ``[n, tokens]``, true at real tokens, at least one per text.
        pooling: ``mean`` over the real tokens, or ``cls``, the first token.

    Returns:
        ``[n, width]``.
    """
    if pooling == "cls":
        return hidden[:, 0]
    weights = mask.to(hidden.dtype)
    return torch.einsum("ntw,nt->nw", hidden, weights) / weights.sum(1, keepdim=True)


def random_passes(model: Any) -> list[Pass]:
    """Texts of random tokens and of many lengths, up to 300 tokens, padded as usual.

    What an encoder makes of them tells whether another way to compute it is the same: a sliding window,
    say, shows in long texts only, and what is fixed to the sizes of an example in the others.
    """
    limit = getattr(model.config, "max_position_embeddings", 512) - 2
    rng = np.random.default_rng(0)
    passes = []
    for texts, tokens in ((3, 5), (1, 17), (4, 30), (2, 300)):
        width = max(1, min(tokens, limit))
        lengths = rng.integers(1, width + 1, texts)
        lengths[0] = width
        ids = rng.integers(5, max(6, model.config.vocab_size), (texts, width), dtype=np.int64)
        passes.append(Pass(ids, np.arange(width) < lengths[:, None]))
    return passes


def least_cosine(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> float:
    """The smallest cosine between corresponding vectors of two lists of ``[n, width]``."""
    one, other = np.concatenate(first), np.concatenate(second)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(((one * other).sum(axis=1) / norms).min())
