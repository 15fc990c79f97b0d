"""Forward passes without padding on a GPU: the texts of a pass are packed into one row.

Flash attention for sequences of different lengths (Dao, 2023) lets each text attend only to itself. It
exists for bfloat16 on NVIDIA GPUs. An encoder is packed only if a test shows that its vectors equal those
of padded passes, which excludes encoders with their own positions, a sliding window or a bias of the
attention scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.attention.varlen import varlen_attn

from labs.language.embeddings.encoders import positions_begin
from labs.language.embeddings.forward import (
    Forward,
    Pass,
    TorchForward,
    least_cosine,
    random_passes,
)
from labs.language.embeddings.sentence_form import Pooling

ATTENTION = "labs_packed"
"""The name under which transformers knows the attention below."""
LEAST_COSINE = 0.999
"""Between packed and padded vectors, both in bfloat16."""
REFUSED = ("position_bias", "sliding_window", "softcap", "s_aux")
"""Features that models may request from their attention, and that this one does not have."""


def torch_forward(model: Any, pooling: Pooling, device: torch.device) -> Forward:
    """Packed passes if the device and the encoder support them, else padded ones.

    Args:
        model: an encoder in evaluation mode.
        pooling: ``mean`` or ``cls``.
        device: where it computes.
    """
    padded = TorchForward(model, pooling, device)
    if device.type != "cuda" or model.dtype != torch.bfloat16:
        return padded
    return pack(model, pooling, device, padded)


def pack(model: Any, pooling: Pooling, device: torch.device, padded: Forward) -> Forward:
    """Packed passes if their vectors equal those of ``padded``, else ``padded``."""
    passes = random_passes(model)
    expected, before = padded(passes), model.config._attn_implementation
    try:
        packed = PackedForward(model, pooling, device)
        if least_cosine(packed(passes), expected) >= LEAST_COSINE:
            return packed
    except Exception:  # a model that does not support packing may fail in any way
        pass
    model.set_attn_implementation(before)
    return padded


class PackedForward:
    """Computes one pass after another, each as a single row of texts.

    Args:
        model: an encoder in evaluation mode on the device; its attention is replaced.
        pooling: ``mean`` or ``cls``.
        device: where it computes.
    """

    def __init__(self, model: Any, pooling: Pooling, device: torch.device) -> None:
        from transformers import AttentionInterface

        AttentionInterface.register(ATTENTION, packed_attention)
        model.set_attn_implementation(ATTENTION)
        self._model, self._pooling, self._device = model, pooling, device
        self._first = positions_begin(model.config)

    @torch.inference_mode()
    def __call__(self, passes: Sequence[Pass]) -> list[np.ndarray]:
        """The pooled vectors of each pass, float32 ``[n, width]``."""
        return [self._one(*one) for one in passes]

    def _one(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        counts = mask.sum(axis=1)
        offsets = torch.tensor([0, *np.cumsum(counts)], dtype=torch.int32, device=self._device)
        longest = int(counts.max())
        hidden = self._model(
            input_ids=torch.from_numpy(ids[mask])[None].to(self._device),
            position_ids=torch.from_numpy(np.nonzero(mask)[1] + self._first)[None].to(self._device),
            cu_seq_lens_q=offsets,
            cu_seq_lens_k=offsets,
            max_length_q=longest,
            max_length_k=longest,
        ).last_hidden_state[0]
        if self._pooling == "cls":
            return hidden[offsets[:-1]].float().cpu().numpy()
        lengths = torch.from_numpy(counts).to(self._device)
        means = torch.segment_reduce(hidden.float(), "mean", lengths=lengths, axis=0)
        return means.cpu().numpy()


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **given: Any,
) -> tuple[torch.Tensor, None]:  # as transformers calls every attention
    """Attention within each text: ``[1, heads, tokens, head width]`` to ``[1, tokens, heads, head width]``.

    Raises:
        NotImplementedError: the model requests more than plain attention in both directions.
    """
    asked = [name for name in REFUSED if given.get(name) is not None]
    if asked or attention_mask is not None or getattr(module, "is_causal", False):
        raise NotImplementedError(f"packed attention with {asked or 'a mask'}")
    query, key, value = (part[0].transpose(0, 1) for part in (query, key, value))
    mixed: Any = varlen_attn(  # a tensor where nothing else is asked for
        query,
        key,
        value,
        given["cu_seq_lens_q"],
        given["cu_seq_lens_k"],
        given["max_length_q"],
        given["max_length_k"],
        scale=given.get("scaling"),
    )
    return mixed[None], None
