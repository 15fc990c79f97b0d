"""Texts to learn from: read, cleaned, and turned into the indices of their characters."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labs.language.text_encoding import decode_text, refuse_binary
from labs.runtime.directory.download import download_once, read_url
from labs.runtime.errors import InputError

INFERNO_URL = "https://www.gutenberg.org/cache/epub/997/pg997.txt"
"""Dante's Inferno in Italian, Project Gutenberg's e-text 997."""

INFERNO_LINES = ("Nel mezzo del cammin di nostra vita", "riveder le stelle")
"""In the first and in the last line of the poem: a file without them is something else, or cut."""

INFERNO_LENGTH = 150_000
"""The poem has about 190,000 characters."""

VALIDATION_SHARE = 0.1
"""The end of a text that validates; all before it trains."""

_START = re.compile(
    r"\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG EBOOK.*?\*\*\*"
    r"|\*END\*? ?THE SMALL PRINT!.*?\*END\*",
    re.IGNORECASE | re.DOTALL,
)
_END = re.compile(
    r"\*\*\* ?END OF (?:THE|THIS) PROJECT GUTENBERG EBOOK|^End of (?:the |this )?Project Gutenberg",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class Corpus:
    """A text as indices into its own vocabulary, split in two."""

    name: str
    """What the text is, for people."""

    vocabulary: str
    """Every character of the text once, in the order of their code points."""

    train: np.ndarray
    """(characters,) uint16 or uint32: the first 90% of the text."""

    validation: np.ndarray
    """The rest."""

    @property
    def train_text(self) -> str:
        """The training part as text."""
        return decode(self.train, self.vocabulary)

    @property
    def validation_text(self) -> str:
        """The validation part as text."""
        return decode(self.validation, self.vocabulary)


def build_corpus(name: str, text: str) -> Corpus:
    """Index a text by its own characters and split it.

    Raises:
        InputError: the text is empty.
    """
    if not text.strip():
        raise InputError(f"{name} is empty: `text` must be a file with text in it")
    characters = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    found, indices = np.unique(characters, return_inverse=True)
    indices = indices.astype(np.uint16 if len(found) <= 2**16 else np.uint32)
    boundary = len(indices) - int(len(indices) * VALIDATION_SHARE)
    return Corpus(name, "".join(map(chr, found)), indices[:boundary], indices[boundary:])


def encode(text: str, vocabulary: str) -> np.ndarray:
    """The index of each character: (characters,) int64.

    Raises:
        InputError: characters that are not in the vocabulary; the message lists them.
    """
    index = {character: i for i, character in enumerate(vocabulary)}
    unknown = sorted(set(text) - index.keys())
    if unknown:
        raise InputError(
            f"the prompt has characters that are not in the model's vocabulary: {' '.join(map(repr, unknown))};"
            f" it knows {vocabulary.strip()!r} and white space"
        )
    return np.array([index[character] for character in text], dtype=np.int64)


def decode(indices: np.ndarray, vocabulary: str) -> str:
    """The text of (characters,) integer indices."""
    return "".join(map(vocabulary.__getitem__, indices.tolist()))


def read_text(path: Path, field: str = "text") -> str:
    """The text of a file in UTF-8 or UTF-16, without its byte-order mark and Gutenberg's frame.

    Lines end with a line feed, whatever they end with in the file.

    Raises:
        InputError: the file is missing, unreadable, binary, or in another encoding; the message names
            ``field`` and the position of the first wrong byte.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"`{field}` {path} does not exist: give a text file") from None
    except OSError as error:
        raise InputError(f"`{field}` {path} cannot be read: {error.strerror}") from None
    return _decode_file(content, f"`{field}` {path}")


def _decode_file(content: bytes, name: str) -> str:
    """Bytes of a text file as clean text; ``name`` begins the error messages."""
    text = decode_text(content, name)
    refuse_binary(text, name)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = strip_gutenberg(text)
    if not text.strip():
        raise InputError(f"{name} is empty: give a text with words in it")
    return text


def strip_gutenberg(text: str) -> str:
    """Cut off Project Gutenberg's header and licence at their markers; else leave as it is."""
    if start := _START.search(text):
        text = text[start.end() :]
        if end := _END.search(text):
            text = text[: end.start()]
        return text.strip("\n") + "\n"
    return text


def fetch_inferno(
    data_dir: Path,
    url: str = INFERNO_URL,
    timeout: float = 20,
) -> str:
    """The Inferno from the cache in ``data_dir``, or from Project Gutenberg, checked and cached.

    Several processes may ask at once: one downloads, the others wait and read the cache.

    Raises:
        OSError: no network, no such page, or what came is not the poem.
    """
    path = data_dir / "inferno.txt"
    download_once(path, lambda: _download(url, timeout))
    return _checked_inferno(path.read_bytes(), str(path))


def _download(url: str, timeout: float) -> bytes:
    """The page at ``url``, checked to be the poem."""
    content = read_url(url, timeout)
    _checked_inferno(content, url)
    return content


def _checked_inferno(content: bytes, source: str) -> str:
    """The poem in ``content``; OSError if it is anything else, such as a proxy's log-in page."""
    try:
        text = _decode_file(content, source)
    except InputError as error:
        raise OSError(str(error)) from None
    missing = [line for line in INFERNO_LINES if line not in text]
    if missing or len(text) < INFERNO_LENGTH:
        reason = (
            f"it does not contain {missing[0]!r}"
            if missing
            else f"it has only {len(text):,} characters"
        )
        raise OSError(f"{source} is not the whole Inferno: {reason}")
    return text


def embedded_english() -> str:
    """The help topics that come with every Python: 400,000 characters of English and examples."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def load_text(
    text: Path | None,
    data_dir: Path,
    say: Callable[[str], None] = print,
    fetch: Callable[[Path], str] = fetch_inferno,
) -> tuple[str, str]:
    """The file ``text``; without one the Inferno; without a network Python's help topics.

    Args:
        text: any text file in UTF-8 or UTF-16.
        data_dir: where a download is kept.
        say: called with one line if the embedded text is used instead.
        fetch: gets the Inferno, or raises OSError.

    Returns:
        The text's name and the text.

    Raises:
        InputError: the file cannot be used.
    """
    if text is not None:
        return text.name, read_text(text)
    try:
        return "Dante, Inferno", fetch(data_dir)
    except OSError as error:
        reason = str(getattr(error, "reason", error))
        say(
            f"cannot download the Inferno ({reason}): using Python's help topics, in English, instead."
            f" Put the poem into {data_dir / 'inferno.txt'}, or give any file as `text`."
        )
        return "pydoc_data.topics (English)", embedded_english()
