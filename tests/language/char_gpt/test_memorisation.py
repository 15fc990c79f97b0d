"""Known words and copied passages, against a search by hand."""

from __future__ import annotations

import random
import re

from labs.language.char_gpt.memorisation import TrainingWords

POEM = (
    "Nel mezzo del cammin di nostra vita\n  mi ritrovai per una selva oscura,\nché la diritta via"
)


def test_words_and_passages_are_found_across_lines_and_case() -> None:
    found = TrainingWords(POEM).compare("xyz MI ritrovai\n per una, selva abc. Nel mezzo del lago")
    assert found.words == 11
    assert found.known_share == 8 / 11
    assert found.copied_words == 5
    assert found.copied_passage == "MI ritrovai\n per una, selva"


def test_nothing_in_common_and_nothing_at_all() -> None:
    words = TrainingWords(POEM)
    nothing = words.compare("1 2 … — ")
    assert (nothing.words, nothing.known_share, nothing.copied_passage) == (0, 0.0, "")
    strange = words.compare("quite another text")
    assert (strange.words, strange.known_share, strange.copied_words) == (3, 0.0, 0)
    assert words.compare(POEM).copied_words == len(re.findall(r"\w+", POEM))


def test_the_longest_passage_equals_a_search_by_hand() -> None:
    random.seed(0)
    for _ in range(20):
        training = [random.choice("abc") for _ in range(60)]
        sample = [random.choice("abcd") for _ in range(30)]
        runs = {tuple(training[i:j]) for i in range(60) for j in range(i + 1, 61)}
        longest = max(
            j - i for i in range(30) for j in range(i, 31) if i == j or tuple(sample[i:j]) in runs
        )
        found = TrainingWords(" ".join(training)).compare(" ".join(sample))
        assert found.copied_words == longest
        assert found.copied_passage in " ".join(training)
        assert len(found.copied_passage.split()) == longest
