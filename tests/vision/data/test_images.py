"""Image files as cameras, scanners and editors write them."""

import struct
from zlib import compress, crc32

import numpy as np
import pytest
from PIL import Image

from labs.runtime.errors import InputError
from labs.vision.data import images
from labs.vision.data.images import (
    allocate,
    middle_square,
    read_image,
    read_picture,
    resize_shorter_side,
    to_array,
)


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


def test_files_that_are_not_images(tmp_path):
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


def test_a_second_page_that_is_broken_is_one_sentence_too(tmp_path):
    """Pillow raises a TypeError: of a broken file its decoders raise nearly anything."""
    pages = [Image.new("RGB", (4, 5), colour) for colour in ("red", "blue")]
    path = tmp_path / "pages.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    content = bytearray(path.read_bytes())
    width = content.rfind(b"\x00\x01\x04\x00")  # the tag ImageWidth of the second page
    content[width : width + 2] = b"\xff\x0f"
    path.write_bytes(content)
    with pytest.raises(InputError, match="pages.tif is broken or not an image"):
        read_image(path)


def test_resizing_keeps_proportions_up_to_a_limit():
    assert resize_shorter_side(Image.new("RGB", (640, 480)), 32).size == (43, 32)
    assert resize_shorter_side(Image.new("RGB", (1, 500)), 32, max_ratio=4).size == (32, 128)


def test_a_draft_of_a_large_photo_is_large_enough(tmp_path):
    Image.new("RGB", (1600, 1200)).save(tmp_path / "photo.jpg")
    width, height = read_picture(tmp_path / "photo.jpg", draft_size=100).image.size
    assert 100 <= height < 1200 and 100 <= width < 1600


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_deep_grey_is_scaled_by_the_bits_it_uses(tmp_path, bits, suffix):
    rng = np.random.default_rng(bits)
    values = rng.integers(0, 2**bits, (30, 20)).astype(np.uint16)
    values[0, 0] = 2**bits - 3
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    picture = read_picture(tmp_path / f"deep.{suffix}")
    assert picture.value_range == (0, 2**bits - 1)
    np.testing.assert_array_equal(
        to_array(picture.image, 1)[0], np.round(values / (2**bits - 1) * 255)
    )


def test_negative_and_float_values_keep_their_order(tmp_path):
    signed = np.array([[-1000, 0, 1000], [3000, -500, 250]], np.int32)  # Hounsfield units, say
    for name, values in (("signed", signed), ("float", signed.astype(np.float32) / 4000)):
        Image.fromarray(values).save(tmp_path / f"{name}.tiff")
        grey = to_array(read_image(tmp_path / f"{name}.tiff"), 1)[0]
        np.testing.assert_array_equal(grey, np.round((signed + 1000) / 4000 * 255))
    Image.fromarray(np.array([[0.5, np.nan]], np.float32)).save(tmp_path / "nan.tiff")
    with pytest.raises(InputError, match=r"nan.tiff holds values that are not finite"):
        read_image(tmp_path / "nan.tiff")


def test_what_8_bits_and_one_frame_lose(tmp_path):
    frames = [Image.new("RGB", (6, 6), (shade, 0, 0)) for shade in (40, 80, 120)]
    for name in ("moving.gif", "pages.tiff"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        picture = read_picture(tmp_path / name)
        assert "only the first is read" in picture.loss
        assert picture.image.getpixel((0, 0)) == (40, 0, 0)
    frames[0].save(tmp_path / "still.gif")
    assert read_picture(tmp_path / "still.gif").loss == ""
    (tmp_path / "deep.png").write_bytes(png_of_48_bits(np.full((2, 3, 3), 0x1234, ">u2")))
    deep = read_picture(tmp_path / "deep.png")
    assert deep.loss == "colours of 16 bits are read by their upper 8"
    assert deep.image.getpixel((0, 0)) == (0x12,) * 3


def png_of_48_bits(values: np.ndarray) -> bytes:
    """By hand, since Pillow does not write it: [H, W, 3] of big-endian uint16."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc32(kind + body))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def test_the_middle_square_is_cut_out_before_it_is_scaled():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 90, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    np.testing.assert_array_equal(np.asarray(middle_square(image, 40)), pixels[:, 25:65])
    tall = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 0, 2)))
    np.testing.assert_array_equal(
        np.asarray(middle_square(tall, 40)), pixels[:, 25:65].transpose(1, 0, 2)
    )
    # A side of 10 million pixels, scaled whole to 512, would take more than 7 terabytes.
    assert middle_square(Image.new("RGB", (10_000_000, 1), "red"), 512).getpixel((9, 9)) == (
        255,
        0,
        0,
    )


def test_more_than_the_memory_is_refused(monkeypatch):
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 2000, "SC_PAGE_SIZE": 1000}.get)
    assert allocate(10, (1, 250, 400)).shape == (10, 1, 250, 400)  # half of two million bytes
    with pytest.raises(InputError, match=r"11 images of 400 x 250 pixels.*smaller `image_size`"):
        allocate(11, (1, 250, 400))
