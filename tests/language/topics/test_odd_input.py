"""Input that is missing, double, or spelled in two ways: refused, or said."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labs.language.topics.text_files import clean_name, read_rows
from labs.language.topics.texts import duplicate_notes, load_texts
from labs.runtime.errors import InputError

TEXTS = [f"headline {i} of the day" for i in range(12)]


def write_jsonl(path: Path, labels: list[object]) -> Path:
    lines = [json.dumps({"body": t, "topic": v}) for t, v in zip(TEXTS, labels, strict=False)]
    path.write_text("\n".join(lines))
    return path


def write_parquet(path: Path, labels: object) -> Path:
    table = pd.DataFrame({"body": TEXTS[: len(labels)], "topic": labels})
    table.to_parquet(path)
    return path


def write_csv(path: Path, labels: list[str]) -> Path:
    rows = [f'{text},"{label}"' for text, label in zip(TEXTS, labels, strict=False)]
    path.write_text("\n".join(["body,topic", *rows]) + "\n")
    return path


@pytest.mark.parametrize(
    ("write", "name", "labels"),
    [
        (write_jsonl, "a.jsonl", [1.0, 0.0, float("nan")]),
        (write_jsonl, "a.jsonl", ["x", "y", None]),
        (write_jsonl, "a.jsonl", ["x", "y", "NaN"]),
        (write_jsonl, "a.jsonl", ["x", "y", " \n "]),
        (write_parquet, "a.parquet", np.array([1.0, 0.0, np.nan], dtype=np.float32)),
        (write_parquet, "a.parquet", np.array([1.0, 0.0, np.nan])),
        (write_parquet, "a.parquet", pd.array([1, 0, None], dtype="Int64")),
        (write_parquet, "a.parquet", pd.array([True, False, None], dtype="boolean")),
        (write_parquet, "a.parquet", pd.Categorical(["x", "y", None])),
        (write_parquet, "a.parquet", pd.to_datetime(["2020-01-01", "2020-01-02", None])),
        (write_parquet, "a.parquet", ["x", "y", None]),
        (write_parquet, "a.parquet", [Decimal("1"), Decimal("2"), None]),
        (write_csv, "a.csv", ["x", "y", ""]),
        (write_csv, "a.csv", ["x", "y", "nan"]),
        (write_csv, "a.tsv", ["x", "y", "<NA>"]),
    ],
)
def test_a_missing_class_is_refused_with_its_row(
    tmp_path: Path, write: object, name: str, labels: list[object]
) -> None:
    path = write(tmp_path / name, labels)
    if name.endswith("tsv"):
        path.write_text(path.read_text().replace(",", "\t"))
    place = "row 3" if name.endswith("parquet") else f"line {3 + (not name.endswith('jsonl'))}"
    with pytest.raises(InputError, match=f"{place}: the class is empty"):
        read_rows(path, "body", "topic")


def test_missing_texts_are_empty_in_every_format(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"t": NaN, "l": "x"}\n{"t": null, "l": "x"}\n')
    table = pa.table({"t": pa.array([None, "a"], pa.large_string()), "l": ["x", "y"]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert [row.text for row in read_rows(tmp_path / "a.jsonl", "t", "l")] == ["", ""]
    assert [row.text for row in read_rows(tmp_path / "a.parquet", "t", "l")] == ["", "a"]


@pytest.mark.parametrize("line", ["3", "null", '"text"', '["a", "b"]', "[]"])
def test_a_line_of_json_that_is_no_object_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"t": "a", "l": "x"}\n' + line + "\n")
    with pytest.raises(
        InputError, match=r"a.jsonl, line 2: expected an object such as \{'t': ...,"
    ):
        read_rows(tmp_path / "a.jsonl", "t", "l")


def test_names_that_look_missing_are_classes(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["NA", "null", "None", "N/A"])
    assert [row.label for row in read_rows(path, "body", "topic")] == ["NA", "null", "None", "N/A"]


def test_a_whole_number_is_one_class_however_it_is_spelled(tmp_path: Path) -> None:
    labels = [1, 1.0, "1", "1.0", " 1 ", "+1.00", 2, 2.0, "2."]
    rows = read_rows(write_jsonl(tmp_path / "a.jsonl", labels), "body", "topic")
    assert [row.label for row in rows] == ["1"] * 6 + ["2"] * 3
    train = write_csv(tmp_path / "train.csv", ["0", "1", "2"] * 3)
    test = write_parquet(tmp_path / "test.parquet", np.array([2.0, 0.0, 1.0]))
    found = load_texts(str(train), str(test), text_column="body", label_column="topic")
    assert found.classes == ("0", "1", "2") and found.test.labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize("pair", [("7", "07"), ("1e1", "10"), ("0.5", "0.50"), ("-0", "0")])
def test_other_spellings_of_a_number_are_refused(tmp_path: Path, pair: tuple[str, str]) -> None:
    path = write_csv(tmp_path / "a.csv", [*pair] * 4)
    with pytest.raises(InputError, match="are the same number") as caught:
        load_texts(str(path), text_column="body", label_column="topic", test_fraction=0.5)
    assert all(f"{spelling!r} (" in str(caught.value) for spelling in pair)


def test_numbers_that_differ_stay_apart(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", ["1.5", "1", "-1"] * 4)
    found = load_texts(str(path), text_column="body", label_column="topic", test_fraction=0.5)
    assert found.classes == ("-1", "1", "1.5")


def test_a_column_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("body,topic,topic\na,x,y\n")
    (tmp_path / "a.tsv").write_text("body\tbody\ttopic\na\tb\ty\n")
    (tmp_path / "a.jsonl").write_text(
        '{"body": "a", "topic": "x"}\n{"body": "b", "topic": 1, "topic": 2}'
    )
    twice = pa.Table.from_arrays([pa.array(["a"])] * 3, names=["body", "topic", "topic"])
    pq.write_table(twice, tmp_path / "a.parquet")
    for name, column in (
        ("csv", "topic"),
        ("tsv", "body"),
        ("jsonl", "topic"),
        ("parquet", "topic"),
    ):
        with pytest.raises(InputError, match=f"has 2 columns '{column}'"):
            read_rows(tmp_path / f"a.{name}", "body", "topic")
    (tmp_path / "b.csv").write_text("body,topic,other,other\na,x,1,2\n")
    assert read_rows(tmp_path / "b.csv", "body", "topic")[0][:2] == ("a", "x")  # not used, no harm
    with pytest.raises(InputError, match="are both 'body'"):
        read_rows(tmp_path / "b.csv", "body", "body")


def test_names_of_classes_are_one_clean_line(tmp_path: Path) -> None:
    odd = {" two\nlines ": "two lines", "tab\there": "tab here", "a\u2028b": "a b", "x\x1bY": "x Y"}
    odd |= {"cafe\u0301": "caf\u00e9", "\u732b": "\u732b"}
    assert [clean_name(name) for name in odd] == list(odd.values())
    path = write_jsonl(tmp_path / "a.jsonl", ["a  b", "c", "a\nb", "c"] * 3)
    found = load_texts(str(path), text_column="body", label_column="topic")
    assert found.classes == ("a b", "c")


def test_duplicates_are_counted_and_reported() -> None:
    notes = duplicate_notes(["Oil  prices", "b", "B", "b ", "", " "], ["OIL prices", "b", "c", ""])
    assert notes[0].startswith("2 of 4 test texts are also training texts")
    assert notes[1].startswith("2 of 6 training texts repeat another one")
    assert duplicate_notes(["a", "b", ""], ["c", "", ""]) == []


def test_files_that_are_not_used_are_reported(tmp_path: Path) -> None:
    for name in ("train.csv", "train_more.csv", "test.csv"):
        write_csv(tmp_path / name, ["1", "2"] * 3)
    (tmp_path / "classes.txt").write_text("One\n")
    found = load_texts(str(tmp_path), text_column="body", label_column="topic")
    assert any("not read: train_more.csv" in note for note in found.notes)
    assert any("classes.txt is not used" in note for note in found.notes)
    assert found.classes == ("1", "2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_column": "a", "label_column": "b"}, "are for files, not for `data` sample"),
        ({"test_data": "x.csv"}, "needs a file as `data`"),
    ],
)
def test_options_without_effect_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_texts(**options)


def test_equal_names_in_classes_txt_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text('"1","a","b"\n"2","c","d"\n')
    (tmp_path / "test.csv").write_text('"1","e","f"\n')
    (tmp_path / "classes.txt").write_text("World\nSport\nWorld \n")
    with pytest.raises(InputError, match="has 'World' more than once"):
        load_texts(str(tmp_path))


def test_classes_that_differ_in_case_alone_are_named(tmp_path: Path) -> None:
    labels = ["Sports", "sports", "world"] * 4
    corpus = load_texts(
        str(write_csv(tmp_path / "a.csv", labels)), text_column="body", label_column="topic"
    )
    assert corpus.classes == ("Sports", "sports", "world")
    assert "'Sports' and 'sports' are two classes, which differ in case alone" in corpus.notes


def test_a_line_of_endless_brackets_is_not_json(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "x", "topic": "y"}\n' + "[" * 200_000)
    with pytest.raises(InputError, match="a.jsonl, line 2: not JSON"):
        read_rows(tmp_path / "a.jsonl", "body", "topic")
