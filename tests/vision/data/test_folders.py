"""What of an image folder is read, how it is scaled, and what is said of the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labs.runtime.errors import InputError
from labs.vision.data.datasets import load_dataset
from labs.vision.data.folders import load_folder


def fill(root: Path, counts: dict[str, int], suffix: str = "png") -> None:
    """Two classes of random pictures, each unlike all others."""
    for part, count in counts.items():
        for label, name in enumerate(("ant", "bee")):
            rng = np.random.default_rng([label, len(part), count])
            (root / part / name).mkdir(parents=True, exist_ok=True)
            for index in range(count):
                pixels = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{index}.{suffix}")


@pytest.mark.parametrize("suffix", ["webp", "bmp", "tif", "GIF", "JPE", "ppm", "jp2", "tga"])
def test_every_kind_that_pillow_reads(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, {"train": 2, "test": 1})
    fill(tmp_path, {"train": 5}, suffix)
    raw = load_folder(tmp_path, None)
    assert raw.train_labels.tolist() == [0] * 7 + [1] * 7
    assert "not read" not in capsys.readouterr().out


def test_files_that_are_not_read_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, {"train": 3, "test": 1, "val": 2})
    for name in ("train/ant/a.txt", "train/bee/b.TXT", "train/stray.png", "train/ant/raw.dng"):
        (tmp_path / name).write_bytes(b"?")
    (tmp_path / "train/ant/noending").write_bytes(b"?")
    (tmp_path / "train/ant/.DS_Store").write_bytes(b"?")
    (tmp_path / "test/bee/more.png").mkdir()
    assert len(load_folder(tmp_path, None).train_images) == 6
    (line,) = capsys.readouterr().out.splitlines()
    assert "7 files or folders not read" in line
    for kind in ("2 folder", "2 .txt", "1 .png", "1 .dng", "1 no ending"):
        assert kind in line
    assert line.endswith("such as val")


def test_a_name_is_the_same_in_both_of_unicode_s_forms(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Archives made on macOS have accented letters as two characters."""
    composed, apart = (
        "\N{LATIN SMALL LETTER E WITH ACUTE}t\N{LATIN SMALL LETTER E WITH ACUTE}",
        "e\u0301te\u0301",
    )
    fill(tmp_path, {"train": 4, "test": 2})
    (tmp_path / "train" / "ant").rename(tmp_path / "train" / composed)
    (tmp_path / "test" / "ant").rename(tmp_path / "test" / apart)
    found = load_folder(tmp_path, None)
    assert found.class_names == ("bee", composed)
    first = np.asarray(Image.open(tmp_path / "test" / apart / "0.png")).transpose(2, 0, 1)
    assert (found.test_images[found.test_labels == 1][0] == first).all()
    assert capsys.readouterr().out == ""
    (tmp_path / "test" / "bee").rename(tmp_path / "test" / composed)
    with pytest.raises(InputError, match="two folders .* encoded differently: make them one"):
        load_folder(tmp_path, None)


def test_classes_that_differ_in_case_alone_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, {"train": 4, "test": 2})
    for part in ("train", "test"):
        (tmp_path / part / "bee").rename(tmp_path / part / "Ant")
    assert load_folder(tmp_path, None).class_names == ("Ant", "ant")
    said = f"{tmp_path}: 'Ant' and 'ant' are two classes, which differ in case alone\n"
    assert capsys.readouterr().out == said


def test_sixteen_bit_images_of_a_folder_share_one_range(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, {"train": 1, "test": 1})
    brightest = {"dim": 900, "bright": 4000}  # 10 bits and 12 by themselves
    rng = np.random.default_rng(0)
    deep = {
        name: rng.integers(0, high, (9, 9)).astype(np.uint16) for name, high in brightest.items()
    }
    for name, values in deep.items():
        values[4, 4] = brightest[name]
        Image.fromarray(values).save(tmp_path / "train" / "ant" / f"{name}.png")
    raw = load_folder(tmp_path, None)  # 0.png, bright.png, dim.png
    for row, name in ((1, "bright"), (2, "dim")):
        np.testing.assert_array_equal(raw.train_images[row, 0], np.round(deep[name] / 4095 * 255))
    assert (
        "2 files or folders of more than 8 bits: 0 to 4095 become 0 to 255"
        in capsys.readouterr().out
    )


def test_thin_images_take_bounded_memory(tmp_path: Path) -> None:
    """In a process of its own, whose peak says what was allocated."""
    fill(tmp_path, {"train": 3, "test": 1})
    for index in range(20):
        Image.new("RGB", (1, 9000) if index % 2 else (9000, 1), (index, 9, 9)).save(
            tmp_path / "train" / "ant" / f"line{index}.png"
        )
    code = f"""
import resource
from pathlib import Path
from labs.vision.data.folders import load_folder
load_folder(Path({str(tmp_path / "..")!r}) / {tmp_path.name!r}, 16)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
raw = load_folder(Path({str(tmp_path)!r}), 768)
grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
print(grown / (raw.train_images.nbytes + raw.test_images.nbytes))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *said, ratio = done.stdout.splitlines()
    assert "20 files or folders more than 4 times as long as wide" in said[-1]
    assert float(ratio) < 3  # one picture scaled whole would be 15,000 MB against 50 of them all


def test_test_images_that_are_training_images(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, {"train": 4, "test": 3})
    load_folder(tmp_path, None)
    assert "also training" not in capsys.readouterr().out
    for index in (0, 2):
        twin = (tmp_path / "train" / "bee" / f"{index}.png").read_bytes()
        (tmp_path / "test" / "bee" / f"{index}.png").write_bytes(twin)
    load_folder(tmp_path, None)
    assert "2 of 6 test images are also training images" in capsys.readouterr().out


def test_the_split_and_the_size_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, {"train": 60, "test": 2})
    load_dataset(str(tmp_path), tmp_path)
    size, share = capsys.readouterr().out.splitlines()
    assert "108 images to train on, 12 (10% of train) held out for validation, 4 to test" in size
    assert size.endswith("9 x 9 pixels, their own size")
    assert "12 validation images one image is 8.3 points" in share
    load_dataset(str(tmp_path), tmp_path, image_size=5)
    assert "5 x 5 pixels, scaled" in capsys.readouterr().out
    load_dataset("digits", tmp_path)
    assert capsys.readouterr().out == ""
