"""Train a small character transformer on Dante's Inferno, or on any text, and generate text.

    python experiments/dante_gpt.py                                  # minutes on two cores
    python experiments/dante_gpt.py --text FILE --learning-rate 5e-4 1e-3 2e-3
    python experiments/dante_gpt.py --preset paper                   # 10.7 million weights
    python experiments/dante_gpt.py --generate-only --checkpoint FILE --prompt "Nel mezzo"

Without --text it downloads the Inferno from Project Gutenberg, once; without a network it takes the
English help texts that come with Python.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from labs.analysis.report.page import open_run
from labs.language.char_gpt.corpora import build_corpus, encode, load_text
from labs.language.char_gpt.results import loss_curves, stream_text, write_text
from labs.language.char_gpt.training import METRIC, CharGPTTrainConfig, check_length, train_char_gpt
from labs.language.sampling import SamplingConfig
from labs.runtime.cli import launch
from labs.runtime.directory.storage import write_atomically
from labs.runtime.errors import InputError
from labs.runtime.loop.console import say
from labs.runtime.machine.resources import Needs, available_nodes
from labs.runtime.machine.seeds import trial_seeds
from labs.runtime.options import NameOrPath, RuntimeOptions
from labs.runtime.reports import Objective
from labs.runtime.sweep import run_grid

PAPER = CharGPTTrainConfig(
    layers=6,
    heads=6,
    width=384,
    context=256,
    dropout=0.2,
    batch_size=48,
    iterations=1000,
    learning_rate=1e-3,
)


@dataclass(frozen=True)
class Config:
    """Options of the character GPT."""

    preset: str = "quick"
    """quick (minutes on two cores) or paper (6 layers of width 384, context 256; for a GPU)."""

    text: Path | None = None
    """Any UTF-8 text to learn from. The default is Dante's Inferno, from Project Gutenberg."""

    data_dir: Path = Path("data")
    """Where the Inferno is kept once it has been downloaded."""

    learning_rate: Annotated[tuple[float, ...], tyro.conf.arg(aliases=["--learning-rates"])] = ()
    """Peak learning rate of AdamW; one trial for each."""

    seeds: tuple[int, ...] = (1,)
    """How many seeds each learning rate runs with; several numbers are the seeds themselves."""

    prompt: str = ""
    """Text that the model continues; empty starts with a new line."""

    length: int = 10_000
    """Number of characters to generate after training."""

    generate_only: bool = False
    """Do not train: generate text with the model of --checkpoint, to standard output."""

    checkpoint: Annotated[str | None, NameOrPath()] = None
    """A checkpoint of an earlier run, for --generate-only."""

    train: Annotated[CharGPTTrainConfig, tyro.conf.OmitArgPrefixes, tyro.conf.SuppressFixed] = (
        field(default_factory=CharGPTTrainConfig)
    )
    sampling: tyro.conf.OmitArgPrefixes[SamplingConfig] = field(default_factory=SamplingConfig)
    runtime: tyro.conf.OmitArgPrefixes[RuntimeOptions] = field(default_factory=RuntimeOptions)

    def __post_init__(self) -> None:
        if not self.learning_rate:  # the preset's
            object.__setattr__(self, "learning_rate", (self.train.learning_rate,))
        if self.length < 1:
            raise InputError(f"--length {self.length} must be at least 1")
        if self.generate_only and self.checkpoint is None:
            raise InputError("--generate-only needs --checkpoint FILE, such as a run's best.pt")
        if self.checkpoint is not None and not self.generate_only:
            raise InputError(
                "--checkpoint is for --generate-only; to continue a training use --resume"
            )

    def trials(self) -> list[CharGPTTrainConfig]:
        """One training per learning rate and seed."""
        return [
            dataclasses.replace(self.train, learning_rate=rate, seed=seed)
            for rate in self.learning_rate
            for seed in trial_seeds(self.train.seed, self.seeds)
        ]


def main(config: Config) -> int:
    """Train the grid and save curves, samples and verse; or generate text from a checkpoint."""
    if config.checkpoint is not None:
        return generate_only(config, config.checkpoint)
    trials = config.trials()
    corpus = build_corpus(*load_text(config.text, config.data_dir, say))
    check_length(corpus, config.train.context)
    encode(config.prompt, corpus.vocabulary)
    nodes = available_nodes(config.runtime)
    with open_run("dante_gpt", config, config.runtime) as run:
        say(f"text: {corpus.name}")
        result = run_grid(
            train_char_gpt,
            trials,
            run=run,
            objective=Objective(METRIC, mode="min", last_step="iterations"),
            needs=Needs(cpus=nodes[0]["CPU"] if nodes and len(trials) == 1 else 1.0),
            shared={"corpus": corpus},
        )
        if not result.history.empty:
            run.add_figure("loss", loss_curves(result.history, result.table))
        best = result.best()
        if best is not None and best["checkpoint"] is not None:
            say(f"{best['name']} writes {config.length:,} characters")
            written = write_text(
                best["checkpoint"],
                corpus,
                config.length,
                config.sampling,
                config.prompt,
                seed=config.train.seed,
            )
            write_atomically(run.path / "verse.txt", written.text.encode())
            summary = written.summary(corpus, best[METRIC])
            run.add_text("verse", summary)
            say(summary)
            say(f"the whole text: {run.path / 'verse.txt'}; its model: {best['checkpoint']}")
        run.say_curves()
    return result.exit_status


def generate_only(config: Config, checkpoint: str) -> int:
    """Generate text from a checkpoint, without training."""
    stream_text(
        checkpoint,
        config.length,
        config.sampling,
        config.prompt,
        config.train.seed,
        show=lambda text: print(text, end="", flush=True),
    )
    print()
    return 0


if __name__ == "__main__":
    launch(
        main,
        Config,
        presets={"quick": Config(), "paper": Config(train=PAPER)},
        grows=("learning_rate", "seeds"),
    )
