"""A random GPT-2 of two layers with the real vocabulary, as a directory."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPT2TokenizerFast


def save_tiny_gpt2(tokenizer: Path, directory: Path, positions: int = 64) -> Path:
    """Large random weights, so that every token of a prompt matters."""
    torch.manual_seed(0)
    sizes = GPT2Config(n_layer=2, n_head=2, n_embd=32, n_positions=positions, initializer_range=0.5)
    GPT2LMHeadModel(sizes).save_pretrained(directory)
    GPT2TokenizerFast.from_pretrained(tokenizer).save_pretrained(directory)
    return directory
