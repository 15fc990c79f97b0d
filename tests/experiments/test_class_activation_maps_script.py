"""The class activation maps as a user runs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scripts import load_script
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from labs.runtime.checkpoints import save_checkpoint
from labs.runtime.cli import launch
from labs.vision.data.datasets import load_dataset
from labs.vision.training import TrainConfig, train_classifier


def call(*arguments: str | Path) -> int:
    script = load_script("class_activation_maps")
    with pytest.raises(SystemExit) as exit_:
        launch(script.main, script.Config, arguments=list(map(str, arguments)))
    return exit_.value.code


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = load_dataset("digits", Path("unused"), train_size=300)
    *_, last = train_classifier(TrainConfig("cnn", 3, 8, 1e-2, epochs=3), data=data)
    path = tmp_path_factory.mktemp("checkpoint") / "best.pt"
    save_checkpoint(path, last.checkpoint())
    return path


def test_without_arguments_a_network_is_trained_first(
    private_ray: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call("--run-root", tmp_path, "--run-name", "cam", "--deletion") == 0
    out = capfd.readouterr().out
    assert "training a small ResCNN on the digits first" in out
    run = tmp_path / "class_activation_maps" / "cam"
    table = pd.read_csv(run / "maps.csv")
    assert len(table) == 4
    assert (table["area_most"] < table["area_random"]).mean() >= 0.75
    names = {path.stem for path in (run / "figures").iterdir()}
    assert names == {
        f"{number:03d}-{name}{suffix}"
        for number, name in enumerate(table["image"])
        for suffix in ("", "-deletion")
    }
    events = EventAccumulator(str(run / "tensorboard" / "summary"))
    events.Reload()
    assert set(events.Tags()["images"]) == {f"figures/{name}" for name in names}


def test_image_files_as_they_come(checkpoint: Path, tmp_path: Path) -> None:
    """Greyscale, with an alpha channel, sixteen bits, one pixel wide and turned by EXIF."""
    exif = Image.Exif()
    exif[0x0112] = 6
    folder = tmp_path / "images"
    folder.mkdir()
    Image.effect_noise((40, 30), 50).save(folder / "grey.png")
    Image.effect_noise((40, 30), 50).convert("RGBA").save(folder / "alpha.png")
    Image.fromarray(np.full((30, 40), 40_000, np.uint16)).save(folder / "deep.png")
    Image.new("RGB", (1, 300), "white").save(folder / "line.png")
    Image.new("RGB", (400, 200), "white").save(folder / "turned.jpg", exif=exif)
    files = sorted(folder.iterdir())
    options = ["--run-root", tmp_path / "runs", "--run-name", "cam", "--full-resolution"]
    assert call("--checkpoint", checkpoint, "--images", *files, *options) == 0
    run = tmp_path / "runs" / "class_activation_maps" / "cam"
    assert list(pd.read_csv(run / "maps.csv")["image"]) == [path.stem for path in files]
    with Image.open(run / "figures" / "004-turned.png") as figure:
        assert figure.height > 400  # upright, at its own resolution or a multiple


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--checkpoint", "none.pt"], "none.pt does not exist"),
        (["--checkpoint", "CHECKPOINT", "--index", "0", "400"], "--index 400 is outside"),
        (["--index", "-1"], "--index -1 is outside"),
        (["--checkpoint", "CHECKPOINT", "--class-name", "ship"], "--class-name ship is unknown"),
        (["--checkpoint", "CHECKPOINT", "--images", "none.jpg"], "none.jpg does not exist"),
        (["--checkpoint", "a.pt", "--run", "b"], "only one of --checkpoint, --run"),
        (["--run", "nowhere"], "nowhere is not a finished run"),
        (["--weights", "a.pth"], "--weights belong to --torchvision"),
        (["--torchvision", "resnet18"], "--torchvision needs --images"),
        (["--deletion", "--full-resolution"], "leave --full-resolution out"),
    ],
)
def test_bad_input_leaves_nothing_behind(
    arguments: list[str],
    message: str,
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [str(checkpoint) if word == "CHECKPOINT" else word for word in arguments]
    assert call(*arguments, "--run-root", tmp_path) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
