"""Labelled texts: the bundled sample, AG News from the hub, or the user's own files."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from labs.language.text_encoding import decode_text
from labs.language.topics.text_files import SUFFIXES, Row, clean_name, read_rows
from labs.runtime.errors import InputError, similar_classes
from labs.runtime.loop.console import counted

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

    notes: tuple[str, ...] = ()
    """What a user should know of the input, a sentence each: what was not read, what is odd."""


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
) -> TextCorpus:  # where the texts are, which columns, and how many: each is an option of its own
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
    _check_source(data, test_data, text_column, label_column)
    rows: tuple[list[Row], list[Row]]
    names: list[str] = []
    notes: list[str] = []
    if data in HUB_NAMES:
        rows, names = _from_hub(HUB_NAMES[data])
    elif data == SAMPLE:
        rows = _sample()
    else:
        train_file, test_file = _files(Path(data), test_data, notes)
        train = read_rows(train_file, text_column, label_column)
        names = _class_names(train_file.parent)
        if test_file is None:
            rows = _split(train, test_fraction, seed)
        else:
            rows = train, read_rows(test_file, text_column, label_column)
    classes, labels = _encode(*rows, names, notes)
    rng = np.random.default_rng(seed)
    parts = []
    for part, size, field in ((0, train_size, "train_size"), (1, test_size, "test_size")):
        chosen = _subset(labels[part], size, field, rng)
        parts.append(LabeledTexts([rows[part][i].text for i in chosen], labels[part][chosen]))
    if len(set(parts[0].labels.tolist())) < len(classes):
        raise InputError(f"`train_size` {train_size} leaves a class without a text: take more")
    notes += duplicate_notes(parts[0].texts, parts[1].texts)
    if empty := sum(not text.strip() for part in parts for text in part.texts):
        notes.append(f"kept {counted(empty, 'empty text')}")
    return TextCorpus(_corpus_name(data), classes, parts[0], parts[1], tuple(notes))


def _check_source(
    data: str, test_data: str | None, text_column: str | None, label_column: str | None
) -> None:
    """Refuse a source that does not exist, and options that would have no effect on it."""
    built_in = data == SAMPLE or data in HUB_NAMES
    if not built_in and not Path(data).exists():
        raise InputError(
            f"`data` {data} does not exist: use sample, {', '.join(HUB_NAMES)}, a directory with"
            f" train.csv and test.csv, or a {', '.join(SUFFIXES)} file"
        )
    if (text_column is None) != (label_column is None):
        raise InputError("`text_column` and `label_column` belong together: give both or neither")
    if built_in and text_column is not None:
        raise InputError(f"`text_column` and `label_column` are for files, not for `data` {data}")
    if test_data is not None and not Path(data).is_file():
        raise InputError(f"`test_data` {test_data} needs a file as `data`, which is {data}")


def duplicate_notes(train: Sequence[str], test: Sequence[str]) -> list[str]:
    """How many texts are there twice, a sentence each; case and white space do not count.

    A test text that is also a training text tests memory. Training texts that occur twice share the
    folds of a cross-validation, so that it is too optimistic.
    """
    known = Counter(key for text in train if (key := " ".join(text.casefold().split())))
    again = sum(" ".join(text.casefold().split()) in known for text in test)
    repeated = sum(count - 1 for count in known.values())
    notes = []
    if again:
        notes.append(
            f"{again} of {len(test)} test texts are also training texts: on those the test measures"
            " memory, and its accuracy is too high"
        )
    if repeated:
        notes.append(
            f"{repeated} of {len(train)} training texts repeat another one: the cross-validated"
            " accuracy is too high"
        )
    return notes


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


def _from_hub(name: str) -> tuple[tuple[list[Row], list[Row]], list[str]]:
    import datasets
    from huggingface_hub.utils import logging as hub_logging

    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)
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
    return (parts[0], parts[1]), names


def _files(path: Path, test_data: str | None, notes: list[str]) -> tuple[Path, Path | None]:
    """The training file and the test file, if there is one of its own; notes what is not read."""
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
        if others := [p.name for p in candidates if p != found[-1]]:
            notes.append(f"not read: {', '.join(others)} in {path}")
    return found[0], found[1]


def _class_names(directory: Path) -> list[str]:
    """The lines of ``classes.txt``, for classes that are numbered from 1."""
    path = directory / "classes.txt"
    if not path.is_file():
        return []
    try:
        lines = decode_text(path.read_bytes(), str(path)).splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None
    names = [name for line in lines if (name := clean_name(line))]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"{path} has {twice[0]!r} more than once: two classes need two names")
    return names


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
    train: Sequence[Row], test: Sequence[Row], names: Sequence[str], notes: list[str]
) -> tuple[tuple[str, ...], tuple[np.ndarray, np.ndarray]]:
    """Classes in order (numbers by value), and both parts' labels as indices into them."""
    if not train or not test:
        raise InputError(f"`data` has no {'training' if not train else 'test'} texts")
    labels = {row.label for row in train}
    numeric = all(label.isdecimal() for label in labels)
    order = sorted(labels, key=lambda label: (int(label) if numeric else 0, label))
    if len(order) < 2:
        raise InputError(f"`data` has only one class, {order[0]!r}: there is nothing to tell apart")
    _check_spellings([*train, *test])
    notes += similar_classes(order)
    index = {label: i for i, label in enumerate(order)}
    for row in test:
        if row.label not in index:
            raise InputError(
                f"{row.place}: class {row.label!r} occurs only in the test set; the training set"
                f" has {', '.join(order[:20])}"
            )
    named = numeric and all(1 <= int(label) <= len(names) for label in order)
    if names and not named:
        notes.append(
            f"classes.txt is not used: it names classes 1 to {len(names)}, and the classes are"
            f" {', '.join(order[:10])}"
        )
    classes = tuple(names[int(label) - 1] if named else label for label in order)
    encoded = [np.array([index[row.label] for row in part], np.int64) for part in (train, test)]
    return classes, (encoded[0], encoded[1])


def _check_spellings(rows: Sequence[Row]) -> None:
    """Refuse one number in two spellings, such as 7 and 07: one class or two cannot be told."""
    spelled: dict[float, Row] = {}
    for row in rows:
        if not _NUMBER.fullmatch(row.label):
            continue
        first = spelled.setdefault(float(row.label), row)
        if first.label != row.label:
            raise InputError(
                f"the classes {first.label!r} ({first.place}) and {row.label!r} ({row.place}) are"
                " the same number: spell them the same way"
            )


_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")


def _subset(
    labels: np.ndarray, size: int | None, field: str, rng: np.random.Generator
) -> np.ndarray:
    if size is not None and not 1 <= size <= len(labels):
        raise InputError(
            f"`{field}` {size} must be between 1 and {len(labels)}, the texts there are"
        )
    if size is None:
        return np.arange(len(labels))
    return np.sort(rng.permutation(len(labels))[:size])
