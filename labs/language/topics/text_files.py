"""Rows of text and class from CSV, TSV, Parquet and JSON-lines files; errors name the line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from labs.runtime.errors import InputError

MAX_FIELD = 100_000_000
"""Characters of the longest text that is read from a CSV file; the csv module stops at 131,072."""


class Row(NamedTuple):
    """A text, its class as written, and where it stands."""

    text: str
    label: str
    place: str


def read_rows(path: Path, text_column: str | None, label_column: str | None) -> list[Row]:
    """All rows of a file, in order.

    Nothing is a missing value: "null", "NA" and "nan" are texts. A text that Parquet or JSON call
    null is an empty text.

    Args:
        text_column: name of the column of texts; ``None`` for AG News' official form (CSV or TSV
            without a header: class, title, description; the text is title and description).
        label_column: name of the column of classes.

    Raises:
        InputError: the file cannot be read, a column is missing, or a row is broken.
    """
    reader = SUFFIXES.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} is not a known kind of file: use {', '.join(SUFFIXES)}")
    if (text_column is None or label_column is None) and reader not in (_csv, _tsv):
        raise InputError(f"{path}: name its columns with `text_column` and `label_column`")
    try:
        return list(reader(path, text_column, label_column))
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: not UTF-8 text") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def read_lines(path: Path) -> list[str]:
    """One text per line.

    Raises:
        InputError: the file cannot be read, is not UTF-8, or is empty.
    """
    try:
        lines = path.read_text("utf-8-sig").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    if lines == [""]:
        raise InputError(f"{path} has no texts: write one per line")
    return lines


def _csv(path: Path, text: str | None, label: str | None, delimiter: str = ",") -> Iterator[Row]:
    before = csv.field_size_limit(MAX_FIELD)
    try:
        # Decoded whole: a reader that decodes on the way counts lines wrong where it fails.
        lines = io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")
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


def _json_lines(path: Path, text: str | None, label: str | None) -> Iterator[Row]:
    # Not splitlines(): JSON strings may hold U+2028 and the like as they are.
    for number, line in enumerate(path.read_bytes().decode("utf-8-sig").split("\n"), 1):
        place = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise InputError(f"{place}: not JSON ({error})") from None
        if not isinstance(record, dict):
            raise InputError(
                f"{place}: expected an object such as {{{text!r}: ..., {label!r}: ...}}"
            )
        for name in (text, label):
            _column(place, list(record), name)
        yield Row(_text(record[text], place, str(text)), _label(record[label], place), place)


SUFFIXES: dict[str, Callable[[Path, str | None, str | None], Iterator[Row]]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
    ".jsonl": _json_lines,
}


def _column(place: Path | str, names: list[str], name: str | None) -> int:
    if name not in names:
        raise InputError(f"{place} has no column {name!r}: it has {', '.join(map(repr, names))}")
    return names.index(name)


def _text(value: Any, place: str, column: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InputError(f"{place}: {column!r} is {value!r} and not a text")
    # JSON can write half of a character, which no tokenizer takes.
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _label(value: Any, place: str) -> str:
    label = "" if value is None else str(value).strip()
    if not label:
        raise InputError(f"{place}: the class is empty")
    return label
