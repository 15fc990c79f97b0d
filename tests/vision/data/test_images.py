"""Image files as cameras, scanners and editors write them."""

import numpy as np
import pytest
from PIL import Image

from labs.runtime.errors import InputError
from labs.vision.data import images
from labs.vision.data.images import center_crop, read_image, resize_shorter_side, to_array


def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(4, 0)
    Image.fromarray(values).save(tmp_path / "deep.png")
    image = read_image(tmp_path / "deep.png")
    assert image.mode == "RGB"
    np.testing.assert_allclose(to_array(image, 1)[0, 0], np.arange(256), atol=1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_are_white(tmp_path, mode):
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2, :, 3] = 255  # the upper half is black, the lower half is not there
    image = Image.fromarray(pixels).convert(mode)
    image.save(tmp_path / "see-through.png")
    array = to_array(read_image(tmp_path / "see-through.png"), 3)
    assert (array[:, :2] == 0).all() and (array[:, 2:] == 255).all()


@pytest.mark.parametrize("mode", ["L", "1", "CMYK"])
def test_other_modes_become_rgb(tmp_path, mode):
    suffix = "jpg" if mode == "CMYK" else "png"
    Image.new(mode, (5, 3), 0).save(tmp_path / f"image.{suffix}")
    image = read_image(tmp_path / f"image.{suffix}")
    assert image.mode == "RGB" and image.size == (5, 3)
    assert to_array(image, 3).shape == (3, 3, 5)
    assert to_array(image, 1).shape == (1, 3, 5)


def test_exif_rotation_is_applied(tmp_path):
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it rotated by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    upright = to_array(read_image(tmp_path / "photo.jpg"), 1)[0]
    assert upright.shape == (40, 20)
    assert upright[:8].min() > 200 and upright[12:].max() < 50  # the left edge is now the top


def test_too_many_pixels(tmp_path, monkeypatch):
    Image.new("1", (8000, 5001)).save(tmp_path / "huge.png")
    with pytest.raises(InputError, match="huge.png has 8000 x 5001 pixels.*40 million"):
        read_image(tmp_path / "huge.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 8000 * 5001)
    assert read_image(tmp_path / "huge.png").size == (8000, 5001)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    Image.new("1", (30_000, 20_000)).save(tmp_path / "bomb.png")
    with pytest.raises(InputError, match="40 million"):
        read_image(tmp_path / "bomb.png")


def test_files_that_are_no_images(tmp_path):
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "empty.png").touch()
    for name, message in (
        ("text.jpg", r"text\.jpg is broken or not an image"),
        ("empty.png", r"empty\.png is broken or not an image"),
        ("none.png", r"none\.png does not exist"),
        (".", "is a directory"),
    ):
        with pytest.raises(InputError, match=message):
            read_image(tmp_path / name)


def test_resizing_keeps_proportions_up_to_a_limit():
    assert resize_shorter_side(Image.new("RGB", (640, 480)), 32).size == (43, 32)
    assert resize_shorter_side(Image.new("RGB", (1, 500)), 32, max_ratio=4).size == (32, 128)
    assert center_crop(Image.new("RGB", (43, 32)), 32).size == (32, 32)


def test_a_draft_of_a_large_photo_is_large_enough(tmp_path):
    Image.new("RGB", (1600, 1200)).save(tmp_path / "photo.jpg")
    width, height = read_image(tmp_path / "photo.jpg", draft_size=100).size
    assert 100 <= height < 1200 and 100 <= width < 1600
