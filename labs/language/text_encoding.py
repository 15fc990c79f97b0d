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
    it is recognised by its zero bytes: every second byte of text in a Latin script is one.

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
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"{name}, line {line}: not UTF-8 text (byte 0x{content[error.start]:02x} at position"
            f" {error.start}); convert it, for instance with iconv -f latin1 -t utf-8"
        ) from None


def _encoding(content: bytes) -> str:
    for mark, encoding in BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return encoding
    start = content[:4096]
    # Of text in a Latin script nearly all high bytes are zero, and hardly a low byte is.
    for first, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        high, low = start[first::2], start[1 - first :: 2]
        if len(start) < 16 or high.count(0) < 0.4 * len(high) or low.count(0) > 0.05 * len(low):
            continue
        text = start[: len(start) // 2 * 2].decode(encoding, "replace")
        if not any(unicodedata.category(c) == "Cc" and c not in "\t\n\f\r" for c in text):
            return encoding
    return "utf-8"
