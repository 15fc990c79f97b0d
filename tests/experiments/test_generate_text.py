"""Text generation as a user runs it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import huggingface_hub.constants
import pandas as pd
import pytest
from scripts import load_script
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_gpt2 import save_tiny_gpt2

from labs.runtime.cli import launch


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("generate_text")


@pytest.fixture(scope="module")
def model(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_gpt2(shared_data / "tokenizers" / "gpt2", tmp_path_factory.mktemp("gpt2"))


def call(script: ModuleType, *arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as exit_:
        launch(script.main, script.Config, arguments=list(map(str, arguments)))
    return exit_.value.code


def test_prompts_and_tokens_go_to_files_and_to_tensorboard(
    script: ModuleType,
    local_ray: None,
    model: Path,
    shared_data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "prompts.txt").write_text("ciao\nNA\n")
    options = ["--model", model, "--text", shared_data / "dante" / "inferno.txt"]
    options += ["--prompt-file", tmp_path / "prompts.txt", "--sequences", "2", "--new-tokens", "5"]
    options += ["--run-root", tmp_path, "--run-name", "first"]
    assert call(script, "Nel mezzo", *options) == 0
    run = tmp_path / "generate_text" / "first"
    table = pd.read_csv(run / "texts.csv", keep_default_na=False)
    assert list(table["prompt"]) == ["Nel mezzo"] * 2 + ["ciao"] * 2 + ["NA"] * 2
    assert list(table["sequence"]) == [0, 1] * 3
    assert table["text"].nunique() == 6
    out = capsys.readouterr().out
    assert "82,990 tokens, 0.442 tokens per character (44.2%)" in out
    assert all(prompt + text in out for prompt, text in zip(table["prompt"], table["text"]))
    assert pd.read_csv(run / "tokens.csv")["characters"][0] == 187_621

    events = EventAccumulator(str(run / "tensorboard" / "summary"))
    events.Reload()
    shown = events.Tensors("generated/text_summary")
    assert [event.step for event in shown] == [0, 1, 2]
    assert table["text"][0] in shown[0].tensor_proto.string_val[0].decode()


def test_tokens_without_a_model(
    script: ModuleType, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--tokens-only", "--tokenizer", shared_data / "tokenizers" / "gpt2"]
    options += ["--text", shared_data / "dante" / "inferno.txt"]
    assert call(script, *options, "--run-root", tmp_path) == 0
    assert "(44.2%)" in capsys.readouterr().out


def test_bad_input_is_refused_before_anything_is_written(
    script: ModuleType,
    model: Path,
    shared_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    where = ["--run-root", tmp_path / "runs", "--text", shared_data / "dante" / "inferno.txt"]

    def bad(*arguments: str | Path) -> str:
        assert call(script, *where, *arguments) == 2
        return capsys.readouterr().err

    assert "hf download gpt2 --local-dir DIR" in bad("ciao")
    assert "is no directory" in bad("ciao", "--model", tmp_path / "none")
    assert "no model" in bad("ciao", "--model", shared_data / "tokenizers" / "gpt2")
    assert "prompt 1 has" in bad("ciao", "--model", model, "--new-tokens", "64")
    assert "--tokens-only" in bad("ciao", "--tokens-only", "--model", model)
    assert "--top-p" in bad("ciao", "--model", model, "--top-p", "2")
    assert "cannot be read" in bad("--model", model, "--prompt-file", tmp_path / "none.txt")
    assert not (tmp_path / "runs").exists()
