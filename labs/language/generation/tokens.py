"""How many tokens a text takes, and which."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class TokenCount:
    """A text in tokens."""

    name: str
    characters: int
    tokens: int

    frequent: tuple[tuple[str, int], ...]
    """The most frequent tokens as text, and how often each occurs."""

    @property
    def ratio(self) -> float:
        """Tokens per character; low for a text like those the tokenizer was trained on."""
        return self.tokens / max(1, self.characters)

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.characters:,} characters, {self.tokens:,} tokens,"
            f" {self.ratio:.3f} tokens per character ({100 * self.ratio:.1f}%)"
        )


def count_tokens(name: str, text: str, tokenizer: Any, most_frequent: int = 20) -> TokenCount:
    """Cut a text into tokens and count them; special tokens do not count."""
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    frequent = tuple(
        (_readable(tokenizer, token), count)
        for token, count in Counter(tokens).most_common(most_frequent)
    )
    return TokenCount(name, len(text), len(tokens), frequent)


def _readable(tokenizer: Any, token: int) -> str:
    """A token as text; one that is only a part of a character, as the vocabulary spells it."""
    text = tokenizer.decode([token])
    return tokenizer.convert_ids_to_tokens(token) if "\ufffd" in text else text


def summary_table(counts: Sequence[TokenCount]) -> pd.DataFrame:
    """One row per text: ``text``, ``characters``, ``tokens``, ``tokens_per_character``."""
    return pd.DataFrame(
        {
            "text": [count.name for count in counts],
            "characters": [count.characters for count in counts],
            "tokens": [count.tokens for count in counts],
            "tokens_per_character": [count.ratio for count in counts],
        }
    )


def frequency_table(counts: Sequence[TokenCount]) -> pd.DataFrame:
    """The most frequent tokens of the texts side by side, in Python's notation."""
    columns: dict[str, pd.Series] = {}
    for count in counts:
        columns[count.name] = pd.Series([repr(token) for token, _ in count.frequent])
        columns[f"{count.name}: times"] = pd.Series([times for _, times in count.frequent])
    return pd.DataFrame(columns)
