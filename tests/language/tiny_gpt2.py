"""A random GPT-2 of two layers whose tokens are characters, as a directory."""

from __future__ import annotations

import string
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

END = "<|endoftext|>"
CHARACTERS = [*string.ascii_letters, *string.digits, *" .,;:!?'\n«»àèéìòù"]


def save_tiny_gpt2(directory: Path, positions: int = 96) -> Path:
    """Large random weights, so that every token of a prompt matters.

    Every text of ``CHARACTERS`` is one sequence of tokens, and the other way round.
    """
    vocabulary = {token: number for number, token in enumerate([END, *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=END))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, clean_up_tokenization_spaces=False
    ).save_pretrained(directory)
    torch.manual_seed(0)
    sizes = GPT2Config(
        vocab_size=len(vocabulary), n_layer=2, n_head=2, n_embd=32, n_positions=positions,
        initializer_range=0.5, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    GPT2LMHeadModel(sizes).save_pretrained(directory)
    return directory
