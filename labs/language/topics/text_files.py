"""Rows of text and class from CSV, TSV, Parquet and JSON-lines files; errors name the line."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from labs.language.text_encoding import decode_text
from labs.runtime.errors import InputError

MAX_FIELD = 100_000_000
"""Characters of the longest text that is read from a CSV file; the csv module stops at 131,072."""


MISSING_LABELS = ("nan", "nat", "<na>", "#n/a")
"""How pandas, NumPy and spreadsheets write a missing value; as a class it is missing. "NA", "null" and
"None" can be names (North America, say) and are classes."""


class Row(NamedTuple):
    """A text, the clean name of its class, and where it stands."""

    text: str
    label: str
    place: str


def read_rows(path: Path, text_column: str | None, label_column: str | None) -> list[Row]:
    """All rows of a file, in order.

    No text is a missing value: "null", "NA" and "nan" are texts. Where Parquet or JSON have no value
    (null or NaN), the text is empty. A class must have a value: its name is stripped of line breaks
    and other white space at its ends, and a whole number has one spelling (``1`` for 1.0 and "1.0").

    Args:
        path: a ``.csv``, ``.tsv``, ``.parquet`` or ``.jsonl`` file.
        text_column: name of the column of texts; ``None`` for AG News' official form (CSV or TSV
            without a header: class, title, description; the text is title and description).
        label_column: name of the column of classes.

    Raises:
        InputError: the file cannot be read, a column is missing or there twice, or a row is broken.
    """
    reader = SUFFIXES.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} is not a known kind of file: use {', '.join(SUFFIXES)}")
    if (text_column is None or label_column is None) and reader not in (_csv, _tsv):
        raise InputError(f"{path}: name its columns with `text_column` and `label_column`")
    if text_column is not None and text_column == label_column:
        raise InputError(f"`text_column` and `label_column` are both {text_column!r}")
    try:
        return list(reader(path, text_column, label_column))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def read_lines(path: Path, field: str) -> tuple[list[str], int]:
    """One text per line, and the number of blank lines, which are left out.

    Raises:
        InputError: the file cannot be read, is not text, or has only blank lines.
    """
    try:
        content = decode_text(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"`{field}` {path} cannot be read: {error.strerror or error}") from None
    lines = content.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")
    texts = [line for line in lines if line.strip()]
    if not texts:
        raise InputError(f"`{field}` {path} has no texts: write one per line")
    return texts, len(lines) - len(texts)


def _csv(path: Path, text: str | None, label: str | None, delimiter: str = ",") -> Iterator[Row]:
    before = csv.field_size_limit(MAX_FIELD)
    try:
        # Decoded as a whole: a reader that decodes on the way counts lines wrong where it fails.
        lines = io.StringIO(decode_text(path.read_bytes(), str(path)), newline="")
        yield from _parse(path, csv.reader(lines, delimiter=delimiter, strict=True), text, label)
    finally:
        csv.field_size_limit(before)


def _tsv(path: Path, text: str | None, label: str | None) -> Iterator[Row]:
    return _csv(path, text, label, "\t")


def _parse(path: Path, reader: Any, text: str | None, label: str | None) -> Iterator[Row]:
    width, indices = 3, (1, 0)
    header = text is not None
    first = 1
    while True:
        place = f"{path}, line {first}"
        try:
            fields = next(reader, None)
        except csv.Error as error:
            raise InputError(f"{place}: a broken row ({error})") from None
        if fields is None:
            return
        first = reader.line_num + 1
        if not fields:
            continue  # an empty line
        if header:
            width = len(fields)
            indices = _column(path, fields, text), _column(path, fields, label)
            header = False
            continue
        if len(fields) != width or (text is None and not fields[0].strip().isdecimal()):
            form = f"{width} fields" if text else "a class number, a title and a description"
            hint = "" if text else "; for another form give `text_column` and `label_column`"
            shown = ", ".join(repr(field[:30]) for field in fields[:4])
            raise InputError(f"{place}: expected {form}, found {len(fields)}: {shown}{hint}")
        content = fields[indices[0]] if text else f"{fields[1]} {fields[2]}"
        yield Row(content, _label(fields[indices[1]], place), place)


def _parquet(path: Path, text: str | None, label: str | None) -> Iterator[Row]:
    try:
        names = pq.read_schema(path).names
        for name in (text, label):
            _column(path, names, name)
        table = pq.read_table(path, columns=[text, label])
    except pa.ArrowException as error:
        raise InputError(f"{path} is not a readable Parquet file: {error}") from None
    pairs = zip(table[text].to_pylist(), table[label].to_pylist(), strict=True)
    for number, (content, value) in enumerate(pairs, 1):
        place = f"{path}, row {number}"
        yield Row(_text(content, place, str(text)), _label(value, place), place)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs: a dict would drop the first of two equal names."""


def _json_lines(path: Path, text: str | None, label: str | None) -> Iterator[Row]:
    # Not splitlines(): JSON strings may hold U+2028 and the like as they are.
    whole = decode_text(path.read_bytes(), str(path))
    for number, line in enumerate(whole.split("\n"), 1):
        place = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            record = json.loads(line, object_pairs_hook=_Pairs)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{place}: not JSON ({error})") from None
        if not isinstance(record, _Pairs):
            raise InputError(
                f"{place}: expected an object such as {{{text!r}: ..., {label!r}: ...}}"
            )
        names = [name for name, _ in record]
        content, value = (record[_column(place, names, name)][1] for name in (text, label))
        yield Row(_text(content, place, str(text)), _label(value, place), place)


SUFFIXES: dict[str, Callable[[Path, str | None, str | None], Iterator[Row]]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
    ".jsonl": _json_lines,
}


def _column(place: Path | str, names: list[str], name: str | None) -> int:
    if name not in names:
        raise InputError(f"{place} has no column {name!r}: it has {', '.join(map(repr, names))}")
    if names.count(name) > 1:
        raise InputError(f"{place} has {names.count(name)} columns {name!r}: rename all but one")
    return names.index(name)


def _text(value: Any, place: str, column: str) -> str:
    if _is_missing(value):
        return ""
    if not isinstance(value, str):
        raise InputError(f"{place}: {column!r} is {value!r} and not a text")
    # JSON can write half of a character, which no tokenizer takes.
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _is_missing(value: Any) -> bool:
    """None, and what is not equal to itself: NaN of floats, decimals and NumPy, pandas' NaT."""
    return value is None or (not isinstance(value, str) and bool(value != value))


def _label(value: Any, place: str) -> str:
    """The name of a class: clean, and the same for 1, 1.0, "1" and "1.0"."""
    if isinstance(value, list | dict | bytes):
        raise InputError(f"{place}: the class is {value!r}: it must be a text or a number")
    label = "" if _is_missing(value) else clean_name(str(value))
    if not label or label.casefold() in MISSING_LABELS:
        found = f" ({value!r})" if label else ""
        raise InputError(f"{place}: the class is empty{found}")
    whole = _WHOLE_NUMBER.fullmatch(label)
    return whole[1] if whole else label


_WHOLE_NUMBER = re.compile(r"\+?(-?\d+)\.0*")


def clean_name(name: str) -> str:
    """A user's name in one line: white space and control characters become single spaces.

    Line breaks and tabs in it would break TensorBoard's metadata and every table. Unicode's composed
    form makes two spellings of an accented letter one.
    """
    printable = "".join(" " if unicodedata.category(c) == "Cc" else c for c in name)
    return unicodedata.normalize("NFC", " ".join(printable.split()))
