"""A sentence-transformers directory is applied as it is meant, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_bert import make_tiny_bert

from labs.language.embeddings.embedder import EmbeddingOptions
from labs.language.embeddings.encoders import resolve_encoder
from labs.language.embeddings.sentence_form import SentenceForm, choose_form, read_sentence_form
from labs.language.embeddings.vectors import embed, plan
from labs.runtime.errors import InputError

TEXTS = ["a short text", "", "another text that is a good deal longer than the first"]
KINDS = ("Transformer", "Pooling", "Normalize")


def write_modules(directory: Path, kinds: tuple[str, ...] = KINDS, **pooling: object) -> None:
    modules = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]  # fmt: skip
    (directory / "modules.json").write_text(json.dumps(modules))
    (directory / "1_Pooling").mkdir(exist_ok=True)
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


OLD_CLS = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
OLD_MEAN = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}


@pytest.mark.parametrize(
    ("kinds", "pooling", "expected"),
    [
        (KINDS, OLD_MEAN, SentenceForm("mean", True)),
        (KINDS[:2], OLD_CLS, SentenceForm("cls", False)),
        (KINDS, {"pooling_mode": "cls"}, SentenceForm("cls", True)),
        (KINDS[:2], {"pooling_mode": ["mean"]}, SentenceForm("mean", False)),
    ],
)
def test_what_the_files_say(
    tmp_path: Path, kinds: tuple[str, ...], pooling: dict[str, object], expected: SentenceForm
) -> None:
    assert read_sentence_form(tmp_path) == SentenceForm("mean", False)
    write_modules(tmp_path, kinds, **pooling)
    assert read_sentence_form(tmp_path) == expected
    assert choose_form(expected, "auto", "e") == expected
    assert choose_form(expected, "mean", "e") == SentenceForm("mean", False)


@pytest.mark.parametrize(
    ("kinds", "pooling", "reason"),
    [
        (("Transformer", "Pooling", "Dense"), OLD_MEAN, "its modules are .*Dense"),
        (("Transformer",), OLD_MEAN, "its modules are Transformer"),
        (KINDS, {"pooling_mode_max_tokens": True}, "its pooling is max_tokens"),
        (KINDS, {**OLD_MEAN, "pooling_mode_max_tokens": True}, "its pooling is mean and max"),
        (KINDS, {"pooling_mode": "lasttoken"}, "its pooling is lasttoken"),
    ],
)
def test_what_is_not_understood_is_refused(
    tmp_path: Path, kinds: tuple[str, ...], pooling: dict[str, object], reason: str
) -> None:
    write_modules(tmp_path, kinds, **pooling)
    form = read_sentence_form(tmp_path)
    with pytest.raises(InputError, match=f"`encoder` e is .*{reason}.*use `pooling` mean or cls"):
        choose_form(form, "auto", "e")
    assert choose_form(form, "cls", "e") == SentenceForm("cls", False)


def test_a_prompt_and_damaged_files_are_refused(tmp_path: Path) -> None:
    write_modules(tmp_path, **OLD_MEAN)
    prompt = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(prompt))
    assert "puts the prompt 'query'" in read_sentence_form(tmp_path).refusal
    (tmp_path / "config_sentence_transformers.json").unlink()
    settings = tmp_path / "sentence_bert_config.json"
    for lower, refusal in ((False, ""), (True, "it puts every text into lower case first")):
        settings.write_text(json.dumps({"max_seq_length": 64, "do_lower_case": lower}))
        assert read_sentence_form(tmp_path).refusal == refusal
    (tmp_path / "modules.json").write_text("[{]")
    assert "cannot be read" in read_sentence_form(tmp_path).refusal


@pytest.mark.parametrize("pooling", [OLD_MEAN, OLD_CLS])
def test_vectors_are_those_of_sentence_transformers(
    tmp_path: Path, pooling: dict[str, object]
) -> None:
    directory = make_tiny_bert(tmp_path)
    write_modules(directory, word_embedding_dimension=32, **pooling)
    options = EmbeddingOptions(
        max_length=48, precision="float32", backend="torch", cache_dir=None
    )  # fmt: skip
    encoder = resolve_encoder(str(directory))[0]
    nodes = [{"CPU": 1.0, "GPU": 0.0}]
    planned = plan(encoder, options, nodes)
    (found,) = embed([TEXTS], planned, in_process=True, progress=False)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)
    rivals = pytest.importorskip("sentence_transformers")
    expected = rivals.SentenceTransformer(str(directory), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(found.vectors, expected, atol=1e-5)
