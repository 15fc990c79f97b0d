"""How much of a generated text is copied from the training text."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Memorisation:
    """What a generated text and the training text have in common."""

    words: int
    """Words of the text."""

    known_share: float
    """Share of them that exist in the training text; 0 for a text without words."""

    copied_words: int
    """Length of the longest run of words that occurs in the training text unchanged."""

    copied_passage: str
    """That passage, as it stands in the generated text."""

    def __str__(self) -> str:
        passage = " ".join(self.copied_passage.split())
        return (
            f"{100 * self.known_share:.0f}% of its {self.words:,} words exist in the training text;"
            f" the longest passage copied word for word has {self.copied_words}: “{passage}”"
        )


class TrainingWords:
    """The words of a training text and where each occurs; compares any number of texts with it.

    A word is a run of letters; upper and lower case, punctuation and line ends do not count.
    """

    def __init__(self, training_text: str) -> None:
        self._places: dict[str, list[int]] = defaultdict(list)
        for place, match in enumerate(_WORD.finditer(training_text)):
            self._places[match.group().lower()].append(place)

    def compare(self, text: str) -> Memorisation:
        """Compare a generated text with the training text."""
        matches = list(_WORD.finditer(text))
        known = longest = end = 0
        runs: dict[int, int] = {}  # where the last word stands -> length of the run that ends there
        for number, match in enumerate(matches):
            places = self._places.get(match.group().lower(), [])
            known += bool(places)
            runs = {place: runs.get(place - 1, 0) + 1 for place in places}
            best = max(runs.values(), default=0)
            if best > longest:
                longest, end = best, number + 1
        passage = text[matches[end - longest].start() : matches[end - 1].end()] if longest else ""
        return Memorisation(len(matches), known / max(1, len(matches)), longest, passage)
