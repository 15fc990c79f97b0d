"""A decoder-only transformer over characters (GPT-2, Radford et al. 2019).

One projection for the queries, keys and values of all heads, fused causal attention, layer norm
before each branch, and a key/value cache with which a character costs one position instead of the
whole window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labs.language.char_gpt.dropout import Dropout
from labs.runtime.errors import InputError, require


@dataclass(frozen=True)
class CharGPTConfig:
    """Sizes of the transformer."""

    layers: int = 4
    """Transformer blocks."""

    heads: int = 4
    """Attention heads; they share the width, so it must be divisible by their number."""

    width: int = 128
    """Length of the vector that stands for one character."""

    context: int = 128
    """Characters that the model sees at once."""

    dropout: float = 0.1
    """Share of the values dropped after the embeddings and after both branches of every block."""

    tie_weights: bool = False
    """Use the character embeddings as the output layer too (Press and Wolf 2017)."""

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "width", "context"):
            require(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        if self.width % self.heads:
            divisors = [h for h in range(1, self.width + 1) if self.width % h == 0]
            nearest = min(divisors, key=lambda h: abs(h - self.heads))
            raise InputError(
                f"`width` {self.width} is not divisible by `heads` {self.heads}:"
                f" use `heads` {nearest} or `width` {self.heads * -(-self.width // self.heads)}"
            )
        require("dropout", self.dropout, 0 <= self.dropout < 1, "in [0, 1), for instance 0.1")


@dataclass
class KeyValueCache:
    """The keys and values of the characters seen so far, so that each is computed once."""

    keys: Tensor
    """(layers, batch, heads, context, head width)."""

    values: Tensor
    """The same shape."""

    length: int = 0
    """Positions filled."""

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Write one layer's new (batch, heads, time, head width); return all that it has so far."""
        end = self.length + keys.shape[2]
        self.keys[layer, :, :, self.length : end] = keys
        self.values[layer, :, :, self.length : end] = values
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]


class CausalSelfAttention(nn.Module):
    """Every character looks at itself and at those before it (Vaswani et al. 2017).

    The attention weights are not dropped: the fused kernel on the CPU has no dropout, and the one
    on the branch's output already regularises.
    """

    def __init__(self, config: CharGPTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.project_in = nn.Linear(config.width, 3 * config.width)
        self.project_out = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor, layer: int = 0, cache: KeyValueCache | None = None) -> Tensor:
        """(batch, time, width) to the same shape."""
        batch, time, width = x.shape
        qkv = self.project_in(x).view(batch, time, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        if cache is None:
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            key, value = cache.append(layer, key, value)
            mask = None
            if time > 1:  # row i is position cache.length + i; a single new one sees everything
                mask = torch.ones(time, key.shape[2], dtype=torch.bool, device=x.device)
                mask = mask.tril(cache.length)
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.project_out(mixed.transpose(1, 2).reshape(batch, time, width))


class Block(nn.Module):
    """Attention, then a feed-forward network on each character, both added to the input."""

    def __init__(self, config: CharGPTConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = CausalSelfAttention(config)
        self.feed_forward_norm = nn.LayerNorm(config.width)
        self.expand = nn.Linear(config.width, 4 * config.width)
        self.contract = nn.Linear(4 * config.width, config.width)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, layer: int = 0, cache: KeyValueCache | None = None) -> Tensor:
        """(batch, time, width) to the same shape."""
        x = x + self.dropout(self.attention(self.attention_norm(x), layer, cache))
        hidden = F.gelu(self.expand(self.feed_forward_norm(x)))
        return x + self.dropout(self.contract(hidden))


class CharGPT(nn.Module):
    """Characters in, scores of each next character out."""

    def __init__(self, config: CharGPTConfig, vocabulary_size: int) -> None:
        super().__init__()
        self.config = config
        self.characters = nn.Embedding(vocabulary_size, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, vocabulary_size, bias=False)
        if config.tie_weights:
            self.head.weight = self.characters.weight
        self._initialise()

    def _initialise(self) -> None:
        """Draw the weights as GPT-2 does, from N(0, 0.02).

        The layers that write to the residual stream are scaled down by the root of their number, so
        that its variance does not grow with the depth.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        residual_std = 0.02 / math.sqrt(2 * self.config.layers)
        for name, weight in self.named_parameters():
            if name.endswith(("attention.project_out.weight", "contract.weight")):
                nn.init.normal_(weight, std=residual_std)

    def forward(self, tokens: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Scores of the character that follows each character.

        Args:
            tokens: (batch, time) int64, indices into the vocabulary.
            cache: what came before; ``tokens`` are added to it. It and they must fit the context.

        Returns:
            (batch, time, vocabulary) logits; with a cache (batch, 1, vocabulary), for the last only.
        """
        start = 0 if cache is None else cache.length
        positions = self.positions.weight[start : start + tokens.shape[1]]
        x = self.dropout(self.characters(tokens) + positions)
        for layer, block in enumerate(self.blocks):
            x = block(x, layer, cache)
        if cache is not None:
            cache.length += tokens.shape[1]
            x = x[:, -1:]
        return self.head(self.norm(x))

    def new_cache(self, batch: int) -> KeyValueCache:
        """An empty cache for ``batch`` sequences, of the model's own type and device."""
        config, weight = self.config, self.head.weight
        shape = (config.layers, batch, config.heads, config.context, config.width // config.heads)
        return KeyValueCache(
            torch.zeros(shape, dtype=weight.dtype, device=weight.device),
            torch.zeros(shape, dtype=weight.dtype, device=weight.device),
        )
