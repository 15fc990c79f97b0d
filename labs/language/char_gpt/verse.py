"""What a sweep of character GPTs leaves for people: its verse, how new it is, and its curves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from labs.language.char_gpt.corpora import Corpus
from labs.language.char_gpt.memorisation import Memorisation, TrainingWords
from labs.language.char_gpt.sampling import SamplingConfig, write
from labs.language.char_gpt.training import KIND, load_char_gpt
from labs.runtime.checkpoints import load_checkpoint

EXCERPT = 1500
"""Characters of a text that are shown; the whole is in a file."""


@dataclass(frozen=True)
class Verse:
    """A text that a trained model wrote."""

    text: str
    """The prompt and what follows it."""

    memorisation: Memorisation
    """What of the text after the prompt stands in the training text."""

    yardstick: Memorisation
    """The same for the validation text, which a person wrote."""

    def summary(self, corpus: Corpus, loss: float) -> str:
        """Markdown: the model's loss, how much of the text is copied, and the text's beginning."""
        return (
            f"Validation loss {loss:.3f} nats, {loss / math.log(2):.3f} bits per character, on"
            f" {corpus.name}\n\n"
            f"Of what the model wrote, {self.memorisation}\n\n"
            f"Of the validation text itself, {self.yardstick}\n\n"
            f"```\n{self.text[:EXCERPT]}\n```\n"
        )


def write_verse(
    checkpoint: str,
    corpus: Corpus,
    length: int,
    sampling: SamplingConfig,
    prompt: str = "",
    seed: int = 0,
) -> Verse:
    """``length`` characters from a checkpoint, compared with the text that it was trained on."""
    model, vocabulary = load_char_gpt(load_checkpoint(checkpoint, KIND))
    text = "".join(write(model, vocabulary, length, sampling, prompt, seed))
    words = TrainingWords(corpus.train_text)
    return Verse(prompt + text, words.compare(text), words.compare(corpus.validation_text))


def recite(
    checkpoint: str,
    length: int,
    sampling: SamplingConfig,
    prompt: str,
    seed: int,
    show: Callable[[str], None],
) -> None:
    """Show the prompt and what a checkpoint writes after it, character by character.

    Raises:
        InputError: the checkpoint is none of a character GPT, or the prompt has characters that it
            does not know.
    """
    model, vocabulary = load_char_gpt(load_checkpoint(checkpoint, KIND))
    characters = write(model, vocabulary, length, sampling, prompt, seed)
    first = next(characters)  # a bad prompt is refused before anything is shown
    show(prompt + first)
    for character in characters:
        show(character)


def loss_curves(history: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Training and validation loss of every trial over the iterations, in nats and in bits.

    Args:
        history: one row per report: ``trial``, ``step`` and the metrics.
        table: one row per trial: ``trial``, ``name``.
    """
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for number, (trial, points) in enumerate(history.groupby("trial")):
        colour = f"C{number % 10}"
        name = table.loc[table["trial"] == trial, "name"].iloc[0]
        label = f"{name}, " if len(table) > 1 else ""
        axes.plot(points["step"], points["val/loss"], color=colour, label=f"{label}validation")
        axes.plot(
            points["step"],
            points["train/loss"],
            color=colour,
            linestyle="--",
            alpha=0.7,
            label=f"{label}training (with dropout)",
        )
    axes.set(xlabel="iteration", ylabel="loss, nats per character")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    bits = axes.secondary_yaxis(
        "right", functions=(lambda nats: nats / math.log(2), lambda bits: bits * math.log(2))
    )
    bits.set_ylabel("bits per character")
    return figure
