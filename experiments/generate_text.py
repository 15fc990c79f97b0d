"""Text from a pre-trained language model, and how many tokens a text takes.

    python experiments/generate_text.py "Nel mezzo del cammin" --model gpt2
    python experiments/generate_text.py --prompt-file FILE --strategy beam --sequences 2
    python experiments/generate_text.py --tokens-only --tokenizer DIR --text FILE

The model comes from a directory, from the hub's cache, or from the hub. Many prompts run on all
actors that the cluster has room for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import tyro

from labs.language.char_gpt.corpora import embedded_english, load_text
from labs.language.generation.generation import GenerationConfig, generate_texts, prompt_lengths
from labs.language.generation.tokens import count_tokens, frequency_table, summary_table
from labs.language.hub import find_pretrained, load_tokenizer
from labs.language.pipeline import PoolOptions
from labs.language.topics.text_files import read_lines
from labs.runtime.cli import launch
from labs.runtime.console import say, show_table
from labs.runtime.errors import InputError
from labs.runtime.options import RuntimeOptions
from labs.runtime.runs import Run, open_run
from labs.runtime.session import connect

PROMPTS = ("Nel mezzo del cammin di nostra vita", "In the middle of the journey of our life")


@dataclass(frozen=True)
class Config:
    """Options of text generation."""

    prompts: tyro.conf.Positional[tuple[str, ...]] = ()
    """What the model goes on from. The default is the first line of the Inferno, in two languages."""

    prompt_file: Path | None = None
    """A file with more prompts, one per line."""

    tokens_only: bool = False
    """Write nothing, count tokens only: a tokenizer is enough for that."""

    tokenizer: str | None = None
    """Whose tokens to count: a hub name, or a directory, also one with nothing but GPT-2's
    vocab.json and merges.txt. The default is that of --model."""

    text: Path | None = None
    """The text whose tokens are counted. The default is Dante's Inferno, from Project Gutenberg."""

    data_dir: Path = Path("data")
    """Where the Inferno is kept once it has been fetched."""

    generation: tyro.conf.OmitArgPrefixes[GenerationConfig] = field(
        default_factory=GenerationConfig
    )
    pool: tyro.conf.OmitArgPrefixes[PoolOptions] = field(default_factory=PoolOptions)
    runtime: tyro.conf.OmitArgPrefixes[RuntimeOptions] = field(default_factory=RuntimeOptions)

    def __post_init__(self) -> None:
        if self.tokens_only and (self.prompts or self.prompt_file):
            raise InputError("--tokens-only writes nothing: leave the prompts out")

    def all_prompts(self) -> list[str]:
        """Those of the command line, then those of the file."""
        lines = read_lines(self.prompt_file) if self.prompt_file else []
        return [*self.prompts, *lines] or list(PROMPTS)


def main(config: Config) -> int:
    """Count tokens and continue every prompt, or only count them."""
    name, option = config.tokenizer or config.generation.model, "--model"
    if config.tokenizer is not None or config.tokens_only:
        option = "--tokenizer"
    tokenizer = load_tokenizer(find_pretrained(name, option, weights=False), option)
    texts = dict([load_text(config.text, config.data_dir, say)])
    texts.setdefault("pydoc_data.topics (English)", embedded_english())
    if config.tokens_only:
        with open_run("generate_text", config, config.runtime) as run:
            report_tokens(run, texts, tokenizer)
        return 0
    prompts = config.all_prompts()
    model = find_pretrained(config.generation.model, "--model")
    own_tokenizer = load_tokenizer(model, "--model")
    lengths = prompt_lengths(prompts, model, own_tokenizer, config.generation.new_tokens)
    with open_run("generate_text", config, config.runtime) as run:
        report_tokens(run, texts, tokenizer)
        if config.generation.greedy and config.generation.strategy == "sample":
            say("--temperature 0 means greedy: always the likeliest token")
        with connect(config.runtime):
            results = list(
                generate_texts(prompts, model, config.generation, lengths=lengths, pool=config.pool)
            )
        report_texts(run, prompts, results)
        say(f"all of it: {run.path}")
        run.say_curves()
    return 0


def report_tokens(run: Run, texts: dict[str, str], tokenizer: object) -> None:
    """Say, and log, how many tokens a character takes."""
    counts = [count_tokens(name, text, tokenizer) for name, text in texts.items()]
    for count in counts:
        say(str(count))
    run.add_table("tokens", summary_table(counts))
    run.add_table("frequent_tokens", frequency_table(counts))
    show_table(frequency_table(counts))


def report_texts(run: Run, prompts: list[str], results: list[list[str]]) -> None:
    """Print the texts, save them, and show them in TensorBoard."""
    rows = []
    for number, (prompt, texts) in enumerate(zip(prompts, results, strict=True)):
        for sequence, text in enumerate(texts):
            rows.append({"prompt": prompt, "sequence": sequence, "text": text})
            say(f"\n[{number + 1}.{sequence + 1}] {prompt}{text}")
        shown = "\n\n---\n\n".join(f"**{prompt}**{text}" for text in texts)
        run.add_text("generated", shown, step=number)
    run.add_table("texts", pd.DataFrame(rows))


if __name__ == "__main__":
    launch(main, Config)
