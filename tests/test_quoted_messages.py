"""Every message that the docs quote is one that the code prints, word for word.

A message of the code is a string or an f-string; what an f-string fills in is a gap. A quoted message fits
if its words are the message's words in the same order. Where the code has a gap the page has an example (a
number, a path, a name in capitals) or words of another message. ``...`` stands for any part of a message.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TROUBLES = ROOT / "docs" / "troubleshooting.md"
PAGES = [TROUBLES, *ROOT.glob("docs/experiments/*.md"), *ROOT.glob("docs/[lor]*.md")]
PROGRAMS = {"docker", "export", "labs", "make", "pip", "python", "ray", "sbatch", "unset", "uv"}
"""A span that begins with one of these is a command and no message."""
EXAMPLES = {"accuracy", "auto", "compare", "cuda", "decay", "dict", "metric", "nan", "row", "train"}
"""Plain words that stand in a gap on the page."""
GAP = "\0"
Words = tuple[str, ...]


def is_plain(word: str) -> bool:
    return re.fullmatch(r"[a-z]{2,}('s)?", word) is not None


def words(text: str) -> Words:
    """The words without marks around them, with options as the command line spells them."""
    spelled = re.sub(r"`([a-z_]+)`", lambda m: "--" + m[1].replace("_", "-"), text)
    bare = (word.strip("`'\",;:()|[]") for word in spelled.replace("...", " ... ").split())
    return tuple(word if word == "..." else word.rstrip(".") for word in bare if word)


def texts(node: ast.expr) -> list[str]:
    """What a string of the code may be: with a choice in it, there are several."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [re.sub(r"%[sd]", GAP, node.value)]
    if isinstance(node, ast.FormattedValue):
        return texts(node.value)
    if isinstance(node, ast.JoinedStr):
        parts = itertools.product(*map(texts, node.values))
        return ["".join(chosen) for chosen in itertools.islice(parts, 64)]
    if isinstance(node, ast.IfExp):
        return [*texts(node.body), *texts(node.orelse)]
    return [GAP]


@cache
def messages() -> dict[Words, set[str]]:
    """The words of each string in the code that is no docstring, in order and as a set."""
    found: dict[Words, set[str]] = {}
    for path in [*ROOT.glob("labs/**/*.py"), *ROOT.glob("experiments/*.py")]:
        tree = ast.parse(path.read_text())
        silent = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, (ast.Constant, ast.JoinedStr)) and id(node) not in silent:
                for text in texts(node):
                    said = words(text)
                    if any(map(is_plain, said)):
                        found[said] = set(said)
    return found


def fits(quoted: Words, message: Words, inner: bool = False) -> bool:
    """Whether the quoted words are a part of the message; ``inner``: all of it, which fills a gap."""

    @cache
    def rest_fits(i: int, j: int) -> bool:
        if i == len(quoted) and not inner:
            return True
        if i < len(quoted) and quoted[i] == "...":
            return any(rest_fits(i + 1, k) for k in range(j, len(message) + 1))
        if j == len(message):
            return i == len(quoted)
        if message[j].strip(GAP):
            return i < len(quoted) and is_like(quoted[i], message[j]) and rest_fits(i + 1, j + 1)
        ends = range(i, len(quoted) + 1)
        return any(rest_fits(k, j + 1) and fills(quoted[i:k], inner) for k in ends)

    return any(rest_fits(0, j) for j in range(1 if inner else len(message)))


@cache
def is_like(word: str, form: str) -> bool:
    """Whether it is the same word, with an example where the form has a gap."""
    return re.fullmatch(re.escape(form).replace(GAP, ".*"), word) is not None


@cache
def fills(part: Words, inner: bool) -> bool:
    """Whether a gap may have these words: examples, or all words of another message."""
    plain = {word for word in part if is_plain(word)} - EXAMPLES
    if not plain or inner:
        return not plain
    return any(fits(part, m, inner=True) for m, known in messages().items() if plain <= known)


def is_printed(quoted: Words) -> bool:
    plain = {word for word in quoted if is_plain(word)} - EXAMPLES
    return any(fits(quoted, m) for m, known in messages().items() if plain & known)


def quotes() -> Iterator[str]:
    """Spans of at least three plain words, and on the page of troubles all words that a table quotes."""
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        cells = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| `")]
        said = set(re.findall(r"`([^`]+)`", "\n".join(cells))) if page == TROUBLES else set()
        for span in re.findall(r"`([^`]+)`", text):
            quoted = " ".join(span.split())
            count = sum(map(is_plain, words(quoted)))
            code = quoted.split()[0] in PROGRAMS or re.match(r"\w+\(", quoted)
            if not code and (count > 2 or (span in said and count)):
                yield quoted


@pytest.mark.parametrize("quoted", list(quotes()))
def test_the_code_prints_what_the_page_quotes(quoted: str) -> None:
    assert is_printed(words(quoted))


def test_another_word_is_noticed() -> None:
    """In any place of any message, whether it is beside a gap or not."""
    unnoticed = []
    for number, quoted in enumerate(quotes()):
        said = words(quoted)
        places = [i for i, word in enumerate(said) if is_plain(word) and word not in EXAMPLES]
        place = places[number % len(places)]
        changed = (*said[:place], "marmalade", *said[place + 1 :])
        if is_printed(changed):
            unnoticed.append(quoted)
    assert not unnoticed
