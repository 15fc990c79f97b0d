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
from labs.vision.data.folders import RawSplits
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


@pytest.mark.slow
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
    assert (table["area_most"] < table["area_moved"]).mean() >= 0.75
    names = {path.stem for path in (run / "figures").iterdir()}
    assert names == {
        f"{number:03d}-{name}{suffix}"
        for number, name in enumerate(table["image"])
        for suffix in ("", "-deletion")
    }
    events = EventAccumulator(str(run / "tensorboard" / "summary"))
    events.Reload()
    assert set(events.Tags()["images"]) == {f"figures/{name}" for name in names}


@pytest.mark.slow
def test_image_files_of_many_forms(checkpoint: Path, tmp_path: Path) -> None:
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


@pytest.mark.slow
def test_a_folder_of_photos_of_several_sizes_has_the_size_that_the_network_learned(
    tmp_path: Path, without_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "photos"
    for number in range(24):
        place = folder / ("train" if number < 18 else "test") / "ab"[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        picture = Image.effect_noise((30 + number, 50 - number), 10 + 40 * (number % 2))
        picture.save(place / f"{number}.png")
    data = load_dataset(str(folder), Path("unused"), image_size=12)
    *_, last = train_classifier(TrainConfig("cnn", 3, 4, 1e-2, epochs=1, batch_size=8), data=data)
    path = tmp_path / "best.pt"
    save_checkpoint(path, last.checkpoint())
    capsys.readouterr()
    options = ["--run-root", tmp_path, "--run-name", "cam", "--index", "1"]
    assert call("--checkpoint", path, *options) == 0
    assert "12 x 12 pixels, scaled" in capsys.readouterr().out


@pytest.mark.slow
def test_another_data_set_than_the_network_s_is_named(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    without_ray: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """MNIST has the digits' classes, so that they can be compared, but not in silence."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 1, 28, 28), dtype=np.uint8)
    labels = np.arange(60) % 10
    mnist = RawSplits(images, labels, images[:20], labels[:20], tuple("0123456789"))
    monkeypatch.setattr("labs.vision.data.downloads.load_mnist", lambda where, name: mnist)
    options = ["--run-root", tmp_path, "--run-name", "cam", "--index", "5"]
    assert call("--checkpoint", checkpoint, "--dataset", "mnist", *options) == 0
    run = tmp_path / "class_activation_maps" / "cam"
    out = capsys.readouterr().out
    assert f"CNN trained on digits: maps of 1 image of mnist, into {run}" in out


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--checkpoint", "none.pt"], "none.pt does not exist"),
        (["--checkpoint", "CHECKPOINT", "--index", "0", "400"], "--index 400 is outside"),
        (["--index", "-1"], "--index -1 is outside"),
        (["--seed", "-1"], "--seed -1 must be 0 or more"),
        (["--top", "0"], "--top 0 must be 1 or more"),
        (["--checkpoint", "CHECKPOINT", "--class-name", "ship"], "--class-name ship is unknown"),
        (["--checkpoint", "CHECKPOINT", "--images", "none.jpg"], "none.jpg does not exist"),
        (["--checkpoint", "a.pt", "--run", "b"], "only one of --checkpoint, --run"),
        (["--run", "nowhere"], "there is no run "),
        (["--weights", "a.pth"], "--weights belong to --torchvision"),
        (["--torchvision", "resnet18"], "--torchvision needs --images"),
        (["--deletion", "--full-resolution"], "leave --full-resolution out"),
        (["--dataset", "mnist"], "--dataset mnist needs a network that was trained on it"),
        (["--dataset", "digits", "--images", "a.png"], "both name images: use only one"),
        (["--checkpoint", "CHECKPOINT", "--num-cpus", "2"], "--num-cpus has no effect"),
        (["--run", "nowhere", "--scheduler", "asha"], "--scheduler has no effect"),
        (
            ["--torchvision", "resnet18", "--dataset", "digits", "--address", "auto"],
            "--address has",
        ),
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
