"""The encoder's forward passes in PyTorch, and the pooling that every backend shares."""

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
