"""Text generation as a user runs it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import huggingface_hub.constants
import pytest
from scripts import load_script
from tiny_gpt2 import save_tiny_gpt2

from labs.runtime.cli import launch


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("generate_text")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_gpt2(tmp_path_factory.mktemp("gpt2"))


def call(script: ModuleType, *arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as exit_:
        launch(script.main, script.Config, arguments=list(map(str, arguments)))
    return exit_.value.code


def test_tokens_without_a_model(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--tokenizer", shared_data / "tokenizers" / "gpt2"]
    options += ["--text", shared_data / "dante" / "inferno.txt"]
    assert call(load_script("count_tokens"), *options, "--run-root", tmp_path) == 0
    assert "(44.2%)" in capsys.readouterr().out


def test_bad_input_is_refused_before_anything_is_written(
    script: ModuleType,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    where = ["--run-root", tmp_path / "runs"]

    def bad(*arguments: str | Path) -> str:
        assert call(script, *where, *arguments) == 2
        return capsys.readouterr().err

    assert "hf download gpt2 --local-dir DIR" in bad("ciao")
    assert "is not a directory" in bad("ciao", "--model", tmp_path / "none")
    (tmp_path / "bare").mkdir()
    assert "no model" in bad("ciao", "--model", tmp_path / "bare")
    assert "prompt 1 has" in bad("ciao", "--model", model, "--new-tokens", "96")
    assert "--top-p" in bad("ciao", "--model", model, "--top-p", "2")
    assert "cannot be read" in bad("--model", model, "--prompt-file", tmp_path / "none.txt")
    assert not (tmp_path / "runs").exists()
