"""Texts: cleaned, refused where they are none, fetched once and checked."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from labs.language.char_gpt.corpora import (
    INFERNO_LINES,
    build_corpus,
    decode,
    embedded_english,
    encode,
    fetch_inferno,
    load_text,
    read_text,
    strip_gutenberg,
)
from labs.runtime.errors import InputError

FRAME = (
    "The Project Gutenberg eBook of A Made-Up Poem\r\n\r\n"
    "This eBook is for the use of anyone.\r\n\r\n"
    "*** START OF THE PROJECT GUTENBERG EBOOK A MADE-UP POEM ***\r\n\r\n\r\n"
    "First line\r\nlast line\r\n\r\n"
    "*** END OF THE PROJECT GUTENBERG EBOOK A MADE-UP POEM ***\r\n"
    "Updated editions will replace the previous one. *** Licence ***\r\n"
)


def write_file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_gutenbergs_frame_mark_and_line_ends_are_removed(tmp_path: Path) -> None:
    path = write_file(tmp_path / "poem.txt", b"\xef\xbb\xbf" + FRAME.encode())
    assert read_text(path) == "First line\nlast line\n"


@pytest.mark.parametrize(
    ("text", "body"),
    [
        (
            "x\n*END*THE SMALL PRINT! FOR ETEXTS*Ver.04*END*\npoem\n\nEnd of Project Gutenberg's X",
            "poem\n",
        ),
        (
            "x\n*** START OF THIS PROJECT GUTENBERG EBOOK X ***\npoem without an end",
            "poem without an end\n",
        ),
        ("a text of *** stars *** of its own\n", "a text of *** stars *** of its own\n"),
        ("", ""),
    ],
)
def test_older_incomplete_and_absent_frames(text: str, body: str) -> None:
    assert strip_gutenberg(text) == body


def test_a_corpus_is_split_and_comes_back_as_text() -> None:
    text = "città — “dolente”\n" * 10 + "𝄞"
    corpus = build_corpus("a test", text)
    assert corpus.train_text + corpus.validation_text == text
    assert len(corpus.validation) == len(text) // 10
    assert corpus.vocabulary == "".join(sorted(set(text)))
    assert corpus.train.dtype == np.uint16
    assert np.array_equal(encode(text, corpus.vocabulary)[: len(corpus.train)], corpus.train)
    assert decode(encode("dolente", corpus.vocabulary), corpus.vocabulary) == "dolente"


def test_unknown_characters_are_named() -> None:
    with pytest.raises(InputError, match="'#' 'Z'"):
        encode("a#bZa", "ab")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \r\n\t\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        ("perché no".encode("latin-1"), r"byte 0xe9 at position 5"),
        (b"text\x00\x01\x02", r"binary file \(byte 0x00 at position 4\)"),
        (b"\x89PNG\r\n\x1a\n\x00", r"binary file \(byte 0x00 at position 8\)"),
        (b"\xff\xfe\x00\xd8a", "begins as utf-16"),
    ],
)
def test_a_file_that_is_not_text_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = write_file(tmp_path / "bad.txt", content)
    with pytest.raises(InputError, match=said):
        read_text(path)


def test_absent_files_and_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`text` .*does not exist"):
        read_text(tmp_path / "none.txt")
    with pytest.raises(InputError, match="`prompt_file` .*cannot be read"):
        read_text(tmp_path, field="prompt_file")


class Page:
    """A web server on this machine with one page, and the number of times it was asked for."""

    def __init__(self) -> None:
        page, self.content, self.requests = self, b"", 0

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page.requests += 1
                self.send_response(200)
                self.send_header("Content-Length", str(page.announced or len(page.content)))
                self.end_headers()
                self.wfile.write(page.content)

            def log_message(self, *arguments: object) -> None:
                pass

        self.announced = 0
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/poem.txt"


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page()
    thread = threading.Thread(target=page.server.serve_forever, daemon=True)
    thread.start()
    yield page
    page.server.shutdown()
    page.server.server_close()
    thread.join()


def made_up_inferno() -> bytes:
    lines = [
        INFERNO_LINES[0],
        *(f"verso {i} d’un poema finto" for i in range(8000)),
        INFERNO_LINES[1],
    ]
    return FRAME.replace("First line\r\nlast line", "\r\n".join(lines)).encode()


def test_the_poem_is_fetched_once_and_kept(page: Page, tmp_path: Path) -> None:
    page.content = made_up_inferno()
    first = fetch_inferno(tmp_path / "data", page.url)
    again = fetch_inferno(tmp_path / "data", page.url)
    assert page.requests == 1
    assert first == again
    assert first.startswith(INFERNO_LINES[0])
    assert first.endswith(INFERNO_LINES[1] + "\n")
    assert "\r" not in first
    files = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert [name for name in files if not name.endswith(".lock")] == ["inferno.txt"]


def test_many_at_once_fetch_it_once(page: Page, tmp_path: Path) -> None:
    page.content = made_up_inferno()
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda: texts.append(fetch_inferno(tmp_path, page.url)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert page.requests == 1
    assert len(texts) == 4


@pytest.mark.parametrize("fault", ["another page", "not text", "cut short", "broken off"])
def test_another_text_than_the_poem_is_neither_used_nor_kept(
    page: Page, tmp_path: Path, fault: str
) -> None:
    whole = made_up_inferno()
    page.content = {
        "another page": b"<html>Please log in to this network</html>",
        "not text": b"\x1f\x8b\x08\x00" * 60_000,
        "cut short": FRAME.replace("First line", INFERNO_LINES[0] + INFERNO_LINES[1]).encode(),
        "broken off": whole[: len(whole) // 2],
    }[fault]
    page.announced = len(whole) if fault == "broken off" else 0
    with pytest.raises(OSError):
        fetch_inferno(tmp_path, page.url)
    assert not (tmp_path / "inferno.txt").exists()


def test_without_a_network_the_embedded_text_is_used(tmp_path: Path) -> None:
    said: list[str] = []

    def unreachable(data_dir: Path) -> str:
        return fetch_inferno(data_dir, "http://127.0.0.1:9/poem.txt", timeout=2)

    name, text = load_text(None, tmp_path / "data", said.append, unreachable)
    assert text == embedded_english()
    assert "pydoc_data.topics" in name
    assert len(embedded_english()) > 300_000
    assert len(said) == 1 and "\n" not in said[0]
    assert "refused" in said[0] and "`text`" in said[0]


def test_a_named_file_is_used_without_a_message(tmp_path: Path) -> None:
    path = write_file(tmp_path / "poem.txt", b"some verse\r\n" * 100)
    name, text = load_text(path, tmp_path / "data", pytest.fail, pytest.fail)
    assert (name, text) == ("poem.txt", "some verse\n" * 100)
    assert not (tmp_path / "data").exists()


def test_the_real_inferno(shared_data: Path) -> None:
    corpus = build_corpus("Inferno", read_text(shared_data / "dante" / "inferno.txt"))
    assert len(corpus.train) + len(corpus.validation) == 187_621
    assert len(corpus.vocabulary) == 72
    assert INFERNO_LINES[0] in corpus.train_text
    assert corpus.validation_text.rstrip().endswith(INFERNO_LINES[1] + ".")
