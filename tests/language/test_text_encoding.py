"""Text files as other programs write them."""

from __future__ import annotations

import pytest

from labs.language.text_encoding import decode_text
from labs.runtime.errors import InputError

TEXT = "Nel mezzo del cammin\r\ndi nostra vita è il perché, 猫 and \U0001f600\n"


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-32"]
    + [f"utf-{bits}-{order}" for bits in (16, 32) for order in ("le", "be")],
)
def test_every_unicode_encoding_is_read(encoding: str) -> None:
    content = TEXT.encode(encoding)
    if encoding.startswith("utf-32-") or encoding == "utf-16-be":
        content = "\ufeff".encode(encoding) + content  # their byte-order marks
    assert decode_text(content, "a.txt") == TEXT


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_wide_encoding_is_recognised_without_its_mark(encoding: str) -> None:
    assert decode_text(TEXT.encode(encoding), "a.txt") == TEXT


def test_other_bytes_are_refused_with_their_place() -> None:
    content = "one\ntwo\nperché\n".encode("latin-1")
    with pytest.raises(
        InputError, match=r"b.txt, line 3: not UTF-8 text \(byte 0xe9 at position 13"
    ):
        decode_text(content, "b.txt")
    with pytest.raises(InputError, match="c.txt is damaged: it begins as utf-16"):
        decode_text("half a pair: ".encode("utf-16") + b"\x3d\xd8", "c.txt")


@pytest.mark.parametrize("encoding", ["utf-32-le", "utf-32-be"])
def test_utf_32_of_any_script_is_recognised(encoding: str) -> None:
    for text in ("猫と犬と鳥\n" * 3, "\U0001f600 !\n" * 9, "война и мир " * 900):
        assert decode_text(text.encode(encoding), "a.txt") == text
    with pytest.raises(InputError, match=f"b.txt is damaged: it begins as {encoding}, but"):
        decode_text(("мир" * 2000).encode(encoding)[:-1], "b.txt")


def test_no_way_to_convert_what_is_not_text() -> None:
    """Only for bytes that can be text in another encoding."""
    with pytest.raises(InputError, match=r"^c.bin is a binary file \(byte 0x00 at position 3\)"):
        decode_text(b"\x89PN\0\r\n\xff\0\0\xfe" * 20, "c.bin")


def test_zero_bytes_alone_are_not_utf_16() -> None:
    """A binary file has zeros on both sides of a pair."""
    content = bytes(range(4)) * 50
    assert decode_text(content, "d.bin") == content.decode()
