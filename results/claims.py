"""The claims of docs/claims.md and the sentences that decide them.

python results/claims.py            # prints the table, and all sentences study by study
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sentences import STUDIES, Tables, load

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"


@dataclass(frozen=True)
class Claim:
    """Something that the reference says, and the sentence that decides it."""

    text: str
    study: str
    sentence: str
    """How the sentence of the study begins."""

    holds: str
    """What the sentence says where the claim holds."""

    fails: str
    """What it says where the opposite is shown."""

    def verdict(self, sentences: Sequence[str]) -> str:
        """``holds``, ``does not hold`` or ``cannot be told``.

        Raises:
            ValueError: the study has no such sentence.
        """
        found = [sentence for sentence in sentences if sentence.startswith(self.sentence)]
        if len(found) != 1:
            raise ValueError(f"{self.study} has {len(found)} sentences {self.sentence!r}")
        clause = found[0].split("; ")[0]
        if self.holds in clause:
            return HOLDS
        return FAILS if self.fails in clause else OPEN


_CNN, _RESCNN = "CNN on cifar10_jpeg: from", "ResCNN on cifar10_jpeg: from"
_HURTS, _HELPS = ": more depth hurts", ": more depth helps"
_SHRINKS, _GROWS = "(it shrinks towards", "(it grows towards"
_VANISHES = "The gradient of a plain CNN of 57 vanishes towards its input"
_BEATS = ("is more than", "is less than")
CLAIMS: tuple[Claim, ...] = (
    *(
        Claim(text, study, sentence, holds, fails)
        for study in ("cifar10_depth", "cifar10_depth_large")
        for text, sentence, holds, fails in (
            ("A CNN of 56 is worse than one of 20", f"{_CNN} 21 to 57", _HURTS, _HELPS),
            ("A ResCNN of 21 is better than one of 11", f"{_RESCNN} 11 to 21", _HELPS, _HURTS),
            ("More depth helps a ResCNN beyond 21 too", f"{_RESCNN} 21 to 57", _HELPS, _HURTS),
            ("The skips help at 57", "At 57 convolutions on", ": skips help", ": skips hurt"),
        )
    ),
    *(
        Claim(f"{_VANISHES}, {when}", study, f"57 convolutions, {part}:", _SHRINKS, _GROWS)
        for study in ("cifar10_gradient_flow", "cifar10_gradient_flow_without_norm")
        for when, part in (
            ("at the start", "first 10 batches"),
            ("after training", "last 10 batches"),
        )
    ),
    *(
        Claim(
            f"Removing what a class activation map shows hurts more than removing {rival}",
            "class_activation_maps", f"Beside {rival}", ": the map beats", f": {rival} beat",
        )
        for rival in ("the same map moved elsewhere", "random pixels")
    ),
    *(
        Claim(
            f"Embeddings of a frozen encoder classify better than TF-IDF with {number} texts",
            "ag_news", f"With {number} training texts", ": embeddings are better", ": TF-IDF is better",
        )
        for number in ("100", "1,000", "all 9,998")
    ),
    *(
        Claim(
            f"{name} reaches the goal more often than the reference's best agent, on v0", "agents",
            f"On v0 the success of {name}", *_BEATS,
        )
        for name in ("PPO", "DQN")
    ),
)  # fmt: skip
"""What the reference says or its figures show; the last four groups are this project's own."""


def claim_rows(tables_of: Callable[[str], Tables]) -> list[str]:
    """The table of the claims, a line each.

    Args:
        tables_of: gives the tables of a study.
    """
    studies = dict.fromkeys(claim.study for claim in CLAIMS)
    sentences = {study: STUDIES[study](tables_of(study)) for study in studies}
    return [
        f"| {claim.text} | {claim.study} | {claim.verdict(sentences[claim.study])} |"
        for claim in CLAIMS
    ]


def main(studies: Sequence[str] = tuple(STUDIES)) -> None:
    """Print the table of the claims, and all sentences."""
    print("\n".join(claim_rows(load)))
    for study in studies:
        print(f"\n{study}\n")
        for sentence in STUDIES[study](load(study)):
            print(f"- {sentence}")


if __name__ == "__main__":
    main()
