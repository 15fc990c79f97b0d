"""Results of a sweep of character GPTs: the best model's text, how much is copied, loss curves."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from labs.analysis import style
from labs.language.char_gpt.corpora import Corpus
from labs.language.char_gpt.memorisation import Memorisation, TrainingWords
from labs.language.char_gpt.training import KIND, METRIC, load_char_gpt
from labs.language.char_gpt.writing import write
from labs.language.sampling import SamplingConfig
from labs.runtime.checkpoints import load_checkpoint

EXCERPT = 1500
"""Characters of a text that are shown; the run's file has all."""


@dataclass(frozen=True)
class WrittenText:
    """A text that a trained model wrote."""

    text: str
    """The prompt and what follows it."""

    memorisation: Memorisation
    """How much of the text after the prompt occurs in the training text."""

    of_validation: Memorisation
    """The same for the validation text, which a human wrote, for comparison."""

    def summary(self, corpus: Corpus, loss: float) -> str:
        """Markdown: the model's loss, how much of the text is copied, and the text's beginning."""
        return (
            f"Validation loss {loss:.3f} nats, {loss / math.log(2):.3f} bits per character, on"
            f" {corpus.name}\n\n"
            f"Of what the model wrote, {self.memorisation}\n\n"
            f"Of the validation text itself, {self.of_validation}\n\n"
            f"```\n{self.text[:EXCERPT]}\n```\n"
        )


def write_text(
    checkpoint: str,
    corpus: Corpus,
    length: int,
    sampling: SamplingConfig,
    prompt: str = "",
    seed: int = 0,
) -> WrittenText:
    """``length`` characters from a checkpoint, compared with the text that it was trained on."""
    model, vocabulary = load_char_gpt(load_checkpoint(checkpoint, KIND))
    text = "".join(write(model, vocabulary, length, sampling, prompt, seed))
    words = TrainingWords(corpus.train_text)
    return WrittenText(prompt + text, words.compare(text), words.compare(corpus.validation_text))


def stream_text(
    checkpoint: str,
    length: int,
    sampling: SamplingConfig,
    prompt: str,
    seed: int,
    show: Callable[[str], None],
) -> None:
    """Show the prompt and what a checkpoint writes after it, character by character.

    Raises:
        InputError: the checkpoint is not of a character GPT, or the prompt has characters that are
            not in its vocabulary.
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
    names = dict(zip(table["trial"], table["name"], strict=True))
    trials = list(history.groupby("trial"))
    for (trial, points), colour in zip(trials, style.colours(len(trials)), strict=True):
        label = f"{names[trial]}, " if len(table) > 1 else ""
        axes.plot(points["step"], points[METRIC], "-", color=colour, label=f"{label}validation")
        training = f"{label}training (with dropout)"
        axes.plot(points["step"], points["train/loss"], "--", color=colour, label=training)
    axes.set(xlabel="iteration", ylabel="loss, nats per character")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    bits = axes.secondary_yaxis("right", functions=(_to_bits, _to_nats))
    bits.set_ylabel("bits per character")
    return figure


def _to_bits(nats: Any) -> Any:
    return np.asarray(nats) / math.log(2)


def _to_nats(bits: Any) -> Any:
    return np.asarray(bits) * math.log(2)
