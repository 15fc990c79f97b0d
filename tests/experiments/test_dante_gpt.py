"""The character GPT as a user runs it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from scripts import load_script, run_script
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from labs.runtime.checkpoints import save_checkpoint
from labs.runtime.cli import launch

SMALL = ["--layers", "1", "--heads", "2", "--width", "16", "--context", "16", "--batch-size", "4"]
SMALL += ["--iterations", "20", "--eval-interval", "10", "--sample-interval", "10"]
SMALL += ["--sample-length", "40", "--length", "300", "--warmup", "2"]
VERSE = "Nel mezzo del cammin di nostra vita\nmi ritrovai per una selva oscura\n"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("dante_gpt")


@pytest.fixture(scope="module")
def poem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "poem.txt"
    path.write_text(VERSE * 30)
    return path


def call(script: ModuleType, *arguments: str | Path) -> int:
    presets = {"quick": script.Config(), "paper": script.Config(train=script.PAPER)}
    with pytest.raises(SystemExit) as exit_:
        launch(script.main, script.Config, presets=presets, arguments=list(map(str, arguments)))
    return exit_.value.code


@pytest.fixture(scope="module")
def finished(
    script: ModuleType, private_ray: None, poem: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    root = tmp_path_factory.mktemp("runs")
    rates = ["--learning-rates", "0.001", "0.02"]
    options = ["--text", poem, "--run-root", root, "--run-name", "sweep", *rates]
    assert call(script, *SMALL, *options) == 0
    return root / "dante_gpt" / "sweep"


@pytest.mark.slow
def test_a_sweep_leaves_curves_samples_and_verse(finished: Path) -> None:
    table = pd.read_csv(finished / "results.csv", keep_default_na=False)
    assert list(table["learning_rate"]) == [0.001, 0.02]
    assert (table["status"] == "done").all()
    assert table["val/loss"].idxmin() == 1  # 20 iterations get nowhere at 0.001
    assert (finished / "figures" / "loss.png").stat().st_size > 10_000
    verse = (finished / "verse.txt").read_text()
    assert len(verse) == 300
    assert set(verse) <= set(VERSE)

    events = EventAccumulator(str(finished / "tensorboard" / table["name"][1]))
    events.Reload()
    assert [event.step for event in events.Scalars("val/loss")] == [10, 20]
    assert {
        "train/loss",
        "train/bits_per_character",
        "train/learning_rate",
        "train/gradient_norm",
        "val/bits_per_character",
        "time/tokens_per_second",
        "sample/known_word_share",
        "sample/copied_words",
    } <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Tensors("sample/text_summary")] == [10, 20]

    summary = EventAccumulator(str(finished / "tensorboard" / "summary"))
    summary.Reload()
    shown = summary.Tensors("verse/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "exist in the training text" in shown


@pytest.mark.slow
def test_writing_from_a_checkpoint(
    script: ModuleType, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.read_csv(finished / "results.csv")
    options = ["--generate-only", "--checkpoint", table["checkpoint"][1], "--length", "50"]
    texts = []
    for seed in ("1", "1", "2"):
        assert call(script, *options, "--prompt", "Nel mezzo", "--seed", seed) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("Nel mezzo")
    assert len(texts[0]) == len("Nel mezzo") + 50 + 1
    assert call(script, *options) == 0  # from nothing
    assert len(capsys.readouterr().out) == 51
    assert call(script, *options, "--prompt", "Nel #3 mezzo") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "'#' '3'" in err


@pytest.mark.slow
def test_local_mode_gives_the_same_numbers(
    script: ModuleType, finished: Path, poem: Path, tmp_path: Path
) -> None:
    status, out, err = run_script(
        "dante_gpt",
        *SMALL,
        *["--text", poem, "--local-mode", "--run-root", tmp_path, "--run-name", "local"],
        *["--learning-rate", "0.02", "--cpus-per-trial", "1"],
    )
    assert status == 0, err
    assert "exist in the training text" in out
    here = pd.read_csv(tmp_path / "dante_gpt" / "local" / "results.csv")
    there = pd.read_csv(finished / "results.csv")
    assert here["val/loss"][0] == there["val/loss"][1]
    verse = (tmp_path / "dante_gpt" / "local" / "verse.txt").read_text()
    assert verse == (finished / "verse.txt").read_text()


def bad(script: ModuleType, capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """What standard error says; the status is 2."""
    assert call(script, *arguments) == 2
    return capsys.readouterr().err


def test_bad_input_is_refused_before_anything_is_written(
    script: ModuleType, poem: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "runs"
    where = ["--run-root", root, "--text"]
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "latin.txt").write_bytes("perché".encode("latin-1"))
    (tmp_path / "short.txt").write_text("Nel mezzo del cammin")
    save_checkpoint(tmp_path / "other.pt", {"kind": "vision.classifier"})
    assert "is empty" in bad(script, capsys, *where, tmp_path / "empty.txt")
    assert "position 5" in bad(script, capsys, *where, tmp_path / "latin.txt")
    assert "--context 1 or less" in bad(script, capsys, *where, tmp_path / "short.txt")
    assert "does not exist" in bad(script, capsys, *where, tmp_path / "none.txt")
    assert "'#'" in bad(script, capsys, *SMALL, *where, poem, "--prompt", "#")
    assert "--heads" in bad(script, capsys, *where, poem, "--width", "100", "--heads", "7")
    assert "--top-p" in bad(script, capsys, *where, poem, "--top-p", "0")
    assert "greedy" in bad(script, capsys, *where, poem, "--temperature", "-1")
    assert "--generate-only needs" in bad(script, capsys, "--generate-only")
    assert "--resume" in bad(script, capsys, *where, poem, "--checkpoint", tmp_path / "other.pt")
    other = ["--generate-only", "--checkpoint", tmp_path / "other.pt"]
    assert "vision.classifier" in bad(script, capsys, *other)
    assert not root.exists()
