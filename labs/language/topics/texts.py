"""Labelled texts: the bundled sample, AG News from the hub, or the user's own files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from labs.language.topics.text_files import SUFFIXES, Row, read_rows
from labs.runtime.errors import InputError

SAMPLE = "sample"
HUB_NAMES = {"ag_news": "fancyzhx/ag_news"}


@dataclass(frozen=True)
class LabeledTexts:
    """Texts with their classes.

    Attributes:
        texts: as they are in the source; "null" and "NA" are texts, and so is the empty one.
        labels: ``[n]`` int64, indices into the classes.
    """

    texts: list[str]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class TextCorpus:
    """A training and a test set with the same classes."""

    name: str
    classes: tuple[str, ...]
    train: LabeledTexts
    test: LabeledTexts

    @property
    def empty_texts(self) -> int:
        """Texts of nothing but white space; they are kept."""
        return sum(not text.strip() for part in (self.train, self.test) for text in part.texts)


def load_texts(
    data: str = SAMPLE,
    test_data: str | None = None,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    test_fraction: float = 0.2,
    train_size: int | None = None,
    test_size: int | None = None,
    seed: int = 1,
) -> TextCorpus:
    """Read a corpus.

    Args:
        data: ``sample`` (bundled headlines), ``ag_news`` (from the hub), a directory with one file
            ``train*`` and one ``test*``, or a file of training texts. Files are CSV, TSV, Parquet or
            JSON lines. Without the columns' names they are in AG News' official form: no header,
            then class number, title, description. A ``classes.txt`` beside them names the classes.
        test_data: the file of test texts, where ``data`` is a file.
        text_column: name of the column with the texts.
        label_column: name of the column with their classes.
        test_fraction: share of a single file's texts that become the test set, drawn by ``seed``.
        train_size: take so many training texts, drawn by ``seed``; default all.
        test_size: the same for the test texts.

    Raises:
        InputError: the source cannot be downloaded or read, a column is missing, a class occurs only in
            the test set, or there is only one class.
    """
    if data != SAMPLE and data not in HUB_NAMES and not Path(data).exists():
        raise InputError(
            f"`data` {data} does not exist: use sample, {', '.join(HUB_NAMES)}, a directory with"
            f" train.csv and test.csv, or a {', '.join(SUFFIXES)} file"
        )
    if (text_column is None) != (label_column is None):
        raise InputError("`text_column` and `label_column` belong together: give both or neither")
    train: list[Row]
    test: list[Row]
    names: list[str] = []
    if data in HUB_NAMES:
        train, test, names = _from_hub(HUB_NAMES[data])
    elif data == SAMPLE:
        train, test = _sample()
    else:
        train_file, test_file = _files(Path(data), test_data)
        train = read_rows(train_file, text_column, label_column)
        names = _class_names(train_file.parent)
        if test_file is not None:
            test = read_rows(test_file, text_column, label_column)
        else:
            train, test = _split(train, test_fraction, seed)
    classes, train_labels, test_labels = _encode(train, test, names)
    rng = np.random.default_rng(seed)
    parts = []
    for rows, labels, size, option in (
        (train, train_labels, train_size, "`train_size`"),
        (test, test_labels, test_size, "`test_size`"),
    ):
        chosen = _subset(labels, size, option, rng)
        parts.append(LabeledTexts([rows[i].text for i in chosen], labels[chosen]))
    if len(set(parts[0].labels.tolist())) < len(classes):
        raise InputError(f"`train_size` {train_size} leaves a class without a text: take more")
    return TextCorpus(_corpus_name(data), classes, *parts)


def _corpus_name(data: str) -> str:
    if data == SAMPLE:
        return "sample of headlines written for this project"
    return HUB_NAMES.get(data, Path(data).name or data)


def _sample() -> tuple[list[Row], list[Row]]:
    """The bundled headlines; every fourth of a class is for testing."""
    with resources.as_file(resources.files("labs.language") / "data" / "news_sample.csv") as path:
        rows = read_rows(path, "text", "label")
    seen: dict[str, int] = {}
    train: list[Row] = []
    test: list[Row] = []
    for row in rows:
        seen[row.label] = seen.get(row.label, 0) + 1
        (test if seen[row.label] % 4 == 0 else train).append(row)
    return train, test


def _from_hub(name: str) -> tuple[list[Row], list[Row], list[str]]:
    import datasets
    from huggingface_hub.utils import logging as hub_logging

    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()
    try:
        corpus = datasets.load_dataset(name)
    except (OSError, datasets.exceptions.DatasetsError) as error:
        raise InputError(
            f"`data`: cannot download {name} from the hub ({error}): use a directory with train.csv"
            " and test.csv, or `data` sample"
        ) from None
    finally:
        hub_logging.set_verbosity(verbosity)
    names = corpus["train"].features["label"].names
    parts = [
        [
            Row(text, str(label + 1), f"{name} {part}, row {number}")
            for number, (text, label) in enumerate(
                zip(corpus[part]["text"], corpus[part]["label"], strict=True), 1
            )
        ]
        for part in ("train", "test")
    ]
    return parts[0], parts[1], names


def _files(path: Path, test_data: str | None) -> tuple[Path, Path | None]:
    """The training file and the test file, if there is one of its own."""
    if path.is_file():
        if test_data is not None and not Path(test_data).is_file():
            raise InputError(f"`test_data` {test_data} is not a file")
        return path, Path(test_data) if test_data is not None else None
    found = []
    for part in ("train", "test"):
        candidates = sorted(p for p in path.glob(f"{part}*") if p.suffix.lower() in SUFFIXES)
        exact = [p for p in candidates if p.stem == part]
        if len(exact or candidates) != 1:
            names = ", ".join(p.name for p in candidates) or "none"
            raise InputError(
                f"`data` {path} must hold one file {part}.csv (or {part}*, any of"
                f" {', '.join(SUFFIXES)}); there is: {names}"
            )
        found.append((exact or candidates)[0])
    return found[0], found[1]


def _class_names(directory: Path) -> list[str]:
    """The lines of ``classes.txt``, for classes that are numbered from 1."""
    path = directory / "classes.txt"
    if not path.is_file():
        return []
    try:
        return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None


def _split(rows: list[Row], test_fraction: float, seed: int) -> tuple[list[Row], list[Row]]:
    """A stratified split: every class gives the same share."""
    if not 0 < test_fraction < 1:
        raise InputError(f"`test_fraction` {test_fraction} must be between 0 and 1, such as 0.2")
    rng = np.random.default_rng(seed)
    labels = np.array([row.label for row in rows])
    test: set[int] = set()
    for label in sorted(set(labels.tolist())):
        members = rng.permutation(np.flatnonzero(labels == label))
        test.update(members[: round(test_fraction * len(members))].tolist())
    return (
        [row for i, row in enumerate(rows) if i not in test],
        [row for i, row in enumerate(rows) if i in test],
    )


def _encode(
    train: Sequence[Row], test: Sequence[Row], names: Sequence[str]
) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Classes in order (numbers by value), and both parts' labels as indices into them."""
    if not train or not test:
        raise InputError(f"`data` has no {'training' if not train else 'test'} texts")
    labels = {row.label for row in train}
    numeric = all(label.isdecimal() for label in labels)
    order = sorted(labels, key=lambda label: (int(label) if numeric else 0, label))
    if len(order) < 2:
        raise InputError(f"`data` has only one class, {order[0]!r}: there is nothing to tell apart")
    index = {label: i for i, label in enumerate(order)}
    for row in test:
        if row.label not in index:
            raise InputError(
                f"{row.place}: class {row.label!r} occurs only in the test set; the training set"
                f" has {', '.join(order[:20])}"
            )
    named = numeric and all(1 <= int(label) <= len(names) for label in order)
    classes = tuple(names[int(label) - 1] if named else label for label in order)
    encode = [np.array([index[row.label] for row in part], np.int64) for part in (train, test)]
    return classes, encode[0], encode[1]


def _subset(
    labels: np.ndarray, size: int | None, option: str, rng: np.random.Generator
) -> np.ndarray:
    if size is not None and not 1 <= size <= len(labels):
        raise InputError(
            f"{option} {size} must be between 1 and {len(labels)}, the texts there are"
        )
    if size is None:
        return np.arange(len(labels))
    return np.sort(rng.permutation(len(labels))[:size])
