"""Bytes of a user's file as text: UTF-8, or UTF-16 and UTF-32 where the file says or shows so."""

from __future__ import annotations

import codecs
import unicodedata

from labs.runtime.errors import InputError

BYTE_ORDER_MARKS = (  # UTF-32 first: its little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)


def decode_text(content: bytes, name: str) -> str:
    """The text of a file, without a byte-order mark; line ends stay as they are.

    Windows programs write UTF-16 ("Unicode text"), nearly always with a byte-order mark. Without one
    it is recognised by its zero bytes: every second byte of text in a Latin script is one. In UTF-32
    the first of a character's four bytes is always zero.

    Args:
        content: the whole file.
        name: begins the error messages.

    Raises:
        InputError: the bytes are not text in one of these encodings; names the first wrong line.
    """
    encoding = _encoding(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise InputError(f"{name} is damaged: it begins as {encoding}, but {error}") from None
        refuse_binary(content.decode("latin-1"), name)
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{name}, line {line}: not UTF-8 text (byte 0x{content[error.start]:02x} at position"
            f" {error.start}); convert it, for instance with iconv -f latin1 -t utf-8"
        ) from None


def refuse_binary(text: str, name: str) -> None:
    """Raise an InputError that begins with ``name`` if the text has a zero byte, as no text file has."""
    if (position := text.find("\0")) >= 0:
        raise InputError(f"{name} is a binary file (byte 0x00 at position {position}), not text")


def _encoding(content: bytes) -> str:
    for mark, encoding in BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return encoding
    start = content[:4096]
    for encoding in ("utf-32-le", "utf-32-be"):
        if _is_utf_32(start, encoding):
            return encoding
    # Of text in a Latin script nearly all high bytes are zero, and hardly a low byte is.
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        high, low = start[first::2], start[1 - first :: 2]
        if len(start) < 16 or high.count(0) < 0.4 * len(high) or low.count(0) > 0.05 * len(low):
            continue
        text = start[: len(start) // 2 * 2].decode(encoding, "replace")
        if not _has_control_characters(text):
            return encoding
    return "utf-8"


def _is_utf_32(start: bytes, encoding: str) -> bool:
    """Whether bytes can only be UTF-32, whose characters are numbers below 0x110000."""
    try:
        text = start[: len(start) // 4 * 4].decode(encoding)
    except UnicodeDecodeError:
        return False
    common = sum(c < "\U00010000" for c in text)  # of the basic plane, which has all living scripts
    return len(text) >= 4 and common > len(text) / 2 and not _has_control_characters(text)


def _has_control_characters(text: str) -> bool:
    return any(unicodedata.category(c) == "Cc" and c not in "\t\n\f\r" for c in text)
