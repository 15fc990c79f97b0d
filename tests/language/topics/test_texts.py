"""Every text arrives as it is, and broken input is named by its line."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labs.language.topics.text_files import read_lines, read_rows
from labs.language.topics.texts import load_texts
from labs.runtime.errors import InputError

ODD = [
    "null",
    "NA",
    "nan",
    "",
    "  ",
    "a\0b",
    "\U0001f600 \u2028 x",
    'say "hi", twice',
    "two\nlines",
    "0",
]


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def corpus(tmp_path: Path, train: str, test: str) -> Path:
    write(tmp_path / "train.csv", train)
    write(tmp_path / "test.csv", test)
    return tmp_path


def test_odd_texts_survive_every_format(tmp_path: Path) -> None:
    labels = ["x", "y"] * 5
    pairs = list(zip(ODD, labels, strict=True))
    rows = "".join(f"{quoted(text)},{label}\n" for text, label in pairs)
    files = [write(tmp_path / "a.csv", "\ufefftext,label\n" + rows)]
    tabs = "".join(f"{quoted(text)}\t{label}\r\n" for text, label in pairs)
    files.append(write(tmp_path / "a.tsv", "text\tlabel\r\n" + tabs))
    lines = [json.dumps({"text": t, "label": label}, ensure_ascii=False) for t, label in pairs]
    files.append(write(tmp_path / "a.jsonl", "\n".join(lines) + "\n"))
    pq.write_table(pa.table({"label": labels, "text": ODD}), tmp_path / "a.parquet")
    files.append(tmp_path / "a.parquet")
    for file in files:
        found = read_rows(file, "text", "label")
        assert [row.text for row in found] == ODD, file
        assert [row.label for row in found] == labels, file


def test_places_count_the_lines_of_long_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text,label\n"two\nlines",x\nshort,y\n\nlast,x\n')
    places = [row.place.split(", ")[1] for row in read_rows(path, "text", "label")]
    assert places == ["line 2", "line 4", "line 6"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na,x\nb,y,z\n", "line 3: expected 2 fields, found 3: 'b', 'y', 'z'"),
        ("text,label\na,x\nb\n", "line 3: expected 2 fields, found 1"),
        ('text,label\na,x\n"b,y\nc,x\n', "line 3: a broken row"),
        ('text,label\na,x\n"b"oops,y\n', "line 3: a broken row"),
        ("text,label\na,x\nb,\n", "line 3: the class is empty"),
        ("body,topic\na,x\n", "no column 'text': it has 'body', 'topic'"),
    ],
)
def test_a_broken_csv_row_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = write(tmp_path / "a.csv", content)
    with pytest.raises(InputError, match=message):
        read_rows(path, "text", "label")


def test_broken_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"text,label\na,x\ncaf\xe9,y\n")
    with pytest.raises(InputError, match="latin.csv, line 3: not UTF-8"):
        read_rows(tmp_path / "latin.csv", "text", "label")
    path = write(tmp_path / "a.jsonl", '{"text": "a", "label": 1}\n{"text": "b"\n')
    with pytest.raises(InputError, match="a.jsonl, line 2: not JSON"):
        read_rows(path, "text", "label")
    path = write(tmp_path / "b.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n')
    with pytest.raises(InputError, match="b.jsonl, line 2 has no column 'label': it has 'text'"):
        read_rows(path, "text", "label")
    path = write(tmp_path / "c.jsonl", '{"text": 7, "label": 1}\n')
    with pytest.raises(InputError, match="line 1: 'text' is 7 and not a text"):
        read_rows(path, "text", "label")
    with pytest.raises(InputError, match="not a readable Parquet file"):
        read_rows(write(tmp_path / "a.parquet", "no"), "text", "label")
    with pytest.raises(InputError, match=r"a.xlsx is not a known kind of file: use .csv, .tsv"):
        read_rows(write(tmp_path / "a.xlsx", ""), "text", "label")
    with pytest.raises(InputError, match="name its columns with `text_column`"):
        read_rows(tmp_path / "a.jsonl", None, None)


def test_missing_values_of_parquet_and_json_are_empty_texts(tmp_path: Path) -> None:
    pq.write_table(pa.table({"t": ["a", None], "l": [1, 2]}), tmp_path / "a.parquet")
    assert read_rows(tmp_path / "a.parquet", "t", "l")[1][:2] == ("", "2")
    path = write(tmp_path / "a.jsonl", '{"t": null, "l": 1}\n{"t": "half \\ud83d", "l": 1}\n')
    assert [row.text for row in read_rows(path, "t", "l")] == ["", "half \ufffd"]


def test_official_form_takes_title_and_description(tmp_path: Path) -> None:
    corpus(
        tmp_path,
        '"2","Goal","NA"\n"1","null","A ""deal"""\n"2","x","y"\n"1","p","q"\n',
        '"1","t","d"\n',
    )
    write(tmp_path / "classes.txt", "World\nSports\n")
    found = load_texts(str(tmp_path))
    assert found.classes == ("World", "Sports")
    assert found.train.texts[:2] == ["Goal NA", 'null A "deal"']
    assert found.train.labels.tolist() == [1, 0, 1, 0]
    assert found.test.texts == ["t d"] and found.test.labels.tolist() == [0]


def test_classes_that_are_numbers_are_ordered_as_numbers(tmp_path: Path) -> None:
    rows = "".join(f"{number},t,d\n" for number in (10, 9, 2))
    assert load_texts(str(corpus(tmp_path, rows, rows))).classes == ("2", "9", "10")


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ("1,a,b\n2,a,b\n", "1,a,b\n3,a,b\n", "test.csv, line 2: class '3' occurs only in the test"),
        ("1,a,b\n1,a,b\n", "1,a,b\n", "only one class, '1'"),
        ("", "1,a,b\n", "has no training texts"),
        ("1,a,b\n2,a,b\n", "", "has no test texts"),
        ("text,label\na,b\n", "1,a,b\n", "train.csv, line 1: expected a class number, a title"),
    ],
)
def test_a_corpus_that_cannot_be_learnt_is_refused(
    tmp_path: Path, train: str, test: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_texts(str(corpus(tmp_path, train, test)))


def test_impossible_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`data` nowhere does not exist: use sample, ag_news"):
        load_texts("nowhere")
    with pytest.raises(InputError, match="must hold one file train.csv.*there is: none"):
        load_texts(str(tmp_path))
    with pytest.raises(InputError, match="`text_column` and `label_column` belong together"):
        load_texts(text_column="text")
    with pytest.raises(InputError, match="`train_size` 1000 must be between 1 and 272"):
        load_texts(train_size=1000)
    with pytest.raises(InputError, match="`train_size` 1 leaves a class without"):
        load_texts(train_size=1)


def test_a_single_file_is_split_alike_in_every_class(tmp_path: Path) -> None:
    rows = "".join(f"text {i},{'a' if i % 4 else 'b'}\n" for i in range(200))
    path = str(write(tmp_path / "all.csv", "text,label\n" + rows))
    options = {"text_column": "text", "label_column": "label", "test_fraction": 0.3}
    found = load_texts(path, **options, seed=3)
    assert np.bincount(found.test.labels).tolist() == [45, 15]
    assert sorted(found.train.texts + found.test.texts) == sorted(f"text {i}" for i in range(200))
    again, other = load_texts(path, **options, seed=3), load_texts(path, **options, seed=4)
    assert again.test.texts == found.test.texts != other.test.texts


def test_the_sample_is_balanced_and_its_parts_are_apart() -> None:
    found = load_texts()
    assert found.classes == ("Business", "Sci/Tech", "Sports", "World")
    assert np.bincount(found.train.labels).tolist() == [68] * 4
    assert np.bincount(found.test.labels).tolist() == [22] * 4
    assert len(set(found.train.texts) | set(found.test.texts)) == 360
    assert found.notes == ()


def test_a_part_of_the_texts_is_drawn_by_the_seed() -> None:
    """Of the training texts and of the test texts, each with its label."""
    whole = load_texts(seed=1)
    labels = dict(zip(whole.train.texts, whole.train.labels.tolist(), strict=True))
    drawn = [load_texts(train_size=80, test_size=30, seed=seed) for seed in (1, 1, 2)]
    for found in drawn:
        assert (len(found.train), len(found.test)) == (80, 30)
        assert [labels[text] for text in found.train.texts] == found.train.labels.tolist()
        assert np.bincount(found.train.labels).min() >= 10  # not the first 80 of the file
        assert set(found.test.texts) < set(whole.test.texts)
    assert drawn[0].train.texts == drawn[1].train.texts != drawn[2].train.texts
    assert drawn[0].test.texts == drawn[1].test.texts != drawn[2].test.texts


def test_the_hub_s_numbers_are_the_names_it_has_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub counts classes from 0, the official files from 1."""
    names = ["World", "Sports", "Business", "Sci/Tech"]
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)}
    )
    parts = {}
    for part, count in (("train", 12), ("test", 5)):
        labels = np.random.default_rng(count).permutation(np.arange(count) % 4).tolist()
        content = {"text": [f"{part} about {names[i]}" for i in labels], "label": labels}
        parts[part] = datasets.Dataset.from_dict(content, features)
    monkeypatch.setattr(datasets, "load_dataset", lambda name: parts)
    found = load_texts("ag_news")
    assert found.classes == tuple(names)
    for part, texts in (("train", found.train), ("test", found.test)):
        assert len(texts) == len(parts[part])
        for text, label in zip(texts.texts, texts.labels, strict=True):
            assert text == f"{part} about {found.classes[label]}"


def test_real_ag_news(shared_data: Path) -> None:
    found = load_texts(str(shared_data / "ag_news"), test_size=100)
    assert found.classes == ("World", "Sports", "Business", "Sci/Tech")
    assert len(found.train) == 9998 and len(found.test) == 100
    whole = load_texts(str(shared_data / "ag_news"))
    assert np.bincount(whole.test.labels).tolist() == [1900] * 4
    assert set(found.test.texts) <= set(whole.test.texts)


def test_lines_to_classify(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "one\r\n\n \t\nNA\n\n")
    assert read_lines(path, "predict_file") == (["one", "NA"], 3)
    for content in ("", "\n \n"):
        with pytest.raises(InputError, match="`predict_file` .* has no texts"):
            read_lines(write(tmp_path / "b.txt", content), "predict_file")
    with pytest.raises(InputError, match="`predict_file` .* cannot be read"):
        read_lines(tmp_path / "c.txt", "predict_file")
