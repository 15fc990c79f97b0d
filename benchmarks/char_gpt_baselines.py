"""Other forms of the character GPT: as in textbooks, as in nanoGPT, and Hugging Face's GPT-2.

The first two compute the same function as :class:`labs.language.char_gpt.model.CharGPT` and can copy its weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labs.language.char_gpt.model import Block, CharGPT, CharGPTConfig

VOCABULARY = 72


class Head(nn.Module):
    """One attention head, as in textbooks."""

    past: Tensor
    """1 if a position (row) may attend to another one (column), else 0."""

    def __init__(self, config: CharGPTConfig, attention_dropout: bool) -> None:
        super().__init__()
        size = config.width // config.heads
        self.key = nn.Linear(config.width, size)
        self.query = nn.Linear(config.width, size)
        self.value = nn.Linear(config.width, size)
        self.register_buffer("past", torch.tril(torch.ones(config.context, config.context)))
        self.dropout = nn.Dropout(config.dropout if attention_dropout else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, width) to (batch, time, width / heads)."""
        time = x.shape[1]
        key, query = self.key(x), self.query(x)
        weights = query @ key.transpose(-2, -1) * key.shape[-1] ** -0.5
        weights = weights.masked_fill(self.past[:time, :time] == 0, -math.inf)
        return self.dropout(F.softmax(weights, dim=-1)) @ self.value(x)


class TextbookBlock(nn.Module):
    """Heads side by side, then a feed-forward network."""

    def __init__(self, config: CharGPTConfig, attention_dropout: bool) -> None:
        super().__init__()
        width = config.width
        self.heads = nn.ModuleList(Head(config, attention_dropout) for _ in range(config.heads))
        self.project = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, width) to the same shape."""
        normed = self.norm1(x)
        mixed = torch.cat([head(normed) for head in self.heads], dim=-1)
        x = x + self.dropout(self.project(mixed))
        return x + self.dropout(self.feed_forward(self.norm2(x)))


class TextbookGPT(nn.Module):
    """The same function as :class:`CharGPT`."""

    def __init__(self, config: CharGPTConfig, attention_dropout: bool = True) -> None:
        super().__init__()
        self.characters = nn.Embedding(VOCABULARY, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.blocks = nn.Sequential(
            *(TextbookBlock(config, attention_dropout) for _ in range(config.layers))
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, VOCABULARY, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, time) int64 to (batch, time, vocabulary) logits."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.dropout(self.characters(tokens) + self.positions(positions))
        return self.head(self.norm(self.blocks(x)))

    def take_weights(self, model: CharGPT) -> None:
        """Copy the weights of ``model``, so that both compute the same function."""
        for name in ("characters", "positions", "norm", "head"):
            getattr(self, name).load_state_dict(getattr(model, name).state_dict())
        for block, own in zip(self.blocks, model.blocks, strict=True):
            assert isinstance(block, TextbookBlock) and isinstance(own, Block)
            size = own.attention.project_out.weight.shape[0] // len(block.heads)
            weights = own.attention.project_in.weight.data.split(size)
            biases = own.attention.project_in.bias.data.split(size)
            for number, head in enumerate(block.heads):
                assert isinstance(head, Head)
                for part, layer in enumerate((head.query, head.key, head.value)):
                    layer.weight.data.copy_(weights[part * len(block.heads) + number])
                    layer.bias.data.copy_(biases[part * len(block.heads) + number])
            block.project.load_state_dict(own.attention.project_out.state_dict())
            block.feed_forward[0].load_state_dict(own.expand.state_dict())
            block.feed_forward[2].load_state_dict(own.contract.state_dict())
            block.norm1.load_state_dict(own.attention_norm.state_dict())
            block.norm2.load_state_dict(own.feed_forward_norm.state_dict())


class FusedBlock(nn.Module):
    """One projection for all heads and fused attention, as in nanoGPT."""

    def __init__(self, config: CharGPTConfig, attention_dropout: bool) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.attend = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)
        self.dropped = config.dropout if attention_dropout else 0.0

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, width) to the same shape."""
        batch, time, width = x.shape
        parts = self.attend(self.norm1(x)).split(width, dim=2)
        query, key, value = (
            part.view(batch, time, self.heads, width // self.heads).transpose(1, 2)
            for part in parts
        )
        mixed = F.scaled_dot_product_attention(
            query, key, value, dropout_p=self.dropped if self.training else 0.0, is_causal=True
        )
        mixed = mixed.transpose(1, 2).contiguous().view(batch, time, width)
        x = x + self.dropout(self.project(mixed))
        return x + self.dropout(self.contract(F.gelu(self.expand(self.norm2(x)))))


class FusedGPT(TextbookGPT):
    """The textbook form with nanoGPT's blocks."""

    def __init__(self, config: CharGPTConfig, attention_dropout: bool = True) -> None:
        super().__init__(config, attention_dropout)
        self.blocks = nn.Sequential(
            *(FusedBlock(config, attention_dropout) for _ in range(config.layers))
        )

    def take_weights(self, model: CharGPT) -> None:
        """Copy the weights of ``model``, so that both compute the same function."""
        for name in ("characters", "positions", "norm", "head"):
            getattr(self, name).load_state_dict(getattr(model, name).state_dict())
        for block, own in zip(self.blocks, model.blocks, strict=True):
            assert isinstance(block, FusedBlock) and isinstance(own, Block)
            block.attend.load_state_dict(own.attention.project_in.state_dict())
            block.project.load_state_dict(own.attention.project_out.state_dict())
            block.expand.load_state_dict(own.expand.state_dict())
            block.contract.load_state_dict(own.contract.state_dict())
            block.norm1.load_state_dict(own.attention_norm.state_dict())
            block.norm2.load_state_dict(own.feed_forward_norm.state_dict())


def hugging_face(config: CharGPTConfig, prompt: Tensor) -> Callable[[int], None]:
    """GPT-2 of the same sizes; its random weights do not matter for the speed."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=config.context,
        n_embd=config.width,
        n_layer=config.layers,
        n_head=config.heads,
        bos_token_id=0,
        eos_token_id=None,
    )
    model = GPT2LMHeadModel(sizes).eval()
    nn.Module.to(model, prompt.device)  # the method of transformers hides the types of torch's
    mask = torch.ones_like(prompt)

    @torch.inference_mode()
    def run(length: int) -> None:
        model.generate(
            prompt,
            attention_mask=mask,
            do_sample=True,
            top_k=0,
            min_new_tokens=length,
            max_new_tokens=length,
            pad_token_id=0,
        )

    return run
