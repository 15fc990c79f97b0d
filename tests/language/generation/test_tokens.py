"""Tokens per character with the real vocabulary of GPT-2."""

from __future__ import annotations

from pathlib import Path

import pytest

from labs.language.char_gpt.corpora import embedded_english, read_text
from labs.language.generation.tokens import count_tokens, frequency_table, summary_table
from labs.language.hub import load_tokenizer


def test_the_inferno_takes_more_tokens_than_english(shared_data: Path) -> None:
    tokenizer = load_tokenizer(shared_data / "tokenizers" / "gpt2", "tokenizer")
    text = read_text(shared_data / "dante" / "inferno.txt")
    inferno = count_tokens("Inferno", text, tokenizer)
    english = count_tokens("English", embedded_english(), tokenizer)
    assert inferno.characters == 187_621
    assert inferno.tokens == 82_990
    assert inferno.ratio == pytest.approx(0.442, abs=0.001)
    assert "0.442 tokens per character (44.2%)" in str(inferno)
    assert english.ratio < 0.33
    assert inferno.frequent[0][0] == " "
    assert inferno.frequent[0][1] == max(count for _, count in inferno.frequent)
    table = summary_table([inferno, english])
    assert list(table["tokens"]) == [82_990, english.tokens]


def test_counts_by_hand(shared_data: Path) -> None:
    tokenizer = load_tokenizer(shared_data / "tokenizers" / "gpt2", "tokenizer")
    counted = count_tokens("a test", "the the the’ the", tokenizer)
    # "the", " the", " the", "’" in two parts that are no characters, " the"
    assert (counted.characters, counted.tokens) == (16, 6)
    assert counted.frequent[0] == (" the", 3)
    assert ("âĢ", 1) in counted.frequent
    assert list(frequency_table([counted])["a test"])[:2] == ["' the'", "'the'"]
    assert count_tokens("nothing", "", tokenizer).ratio == 0
