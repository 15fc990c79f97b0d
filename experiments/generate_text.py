"""Text from a pre-trained language model.

    python experiments/generate_text.py "Nel mezzo del cammin" --model gpt2
    python experiments/generate_text.py --prompt-file FILE --strategy beam --sequences 2

The model comes from a directory, from the hub's cache, or from the hub. Many prompts run on all
actors that the cluster has room for. (experiments/count_tokens.py counts tokens.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import tyro

from labs.analysis.report.page import open_run
from labs.language.generation.pretrained import GenerationConfig, generate_texts, prompt_lengths
from labs.language.hub import find_pretrained, load_tokenizer
from labs.language.pipeline import PoolOptions
from labs.language.topics.text_files import read_lines
from labs.runtime.cli import launch
from labs.runtime.directory.runs import Run
from labs.runtime.loop.console import counted, say
from labs.runtime.machine.session import connect
from labs.runtime.options import RuntimeOptions

PROMPTS = ("Nel mezzo del cammin di nostra vita", "In the middle of the journey of our life")


@dataclass(frozen=True)
class Config:
    """Options of text generation."""

    prompts: tyro.conf.Positional[tuple[str, ...]] = ()
    """What the model continues. The default is the first line of the Inferno, in two languages."""

    prompt_file: Path | None = None
    """A file with more prompts, one per line."""

    generation: tyro.conf.OmitArgPrefixes[GenerationConfig] = field(
        default_factory=GenerationConfig
    )
    pool: tyro.conf.OmitArgPrefixes[PoolOptions] = field(default_factory=PoolOptions)
    runtime: tyro.conf.OmitArgPrefixes[RuntimeOptions] = field(default_factory=RuntimeOptions)

    def all_prompts(self) -> list[str]:
        """Those of the command line, then those of the file."""
        lines: list[str] = []
        if self.prompt_file is not None:
            lines, blank = read_lines(self.prompt_file, "prompt_file")
            if blank:
                say(f"skipped {counted(blank, 'blank line')} of {self.prompt_file}")
        return [*self.prompts, *lines] or list(PROMPTS)


def main(config: Config) -> int:
    """Continue every prompt."""
    prompts = config.all_prompts()
    model = find_pretrained(config.generation.model, "model")
    tokenizer = load_tokenizer(model, "model")
    lengths = prompt_lengths(prompts, model, tokenizer, config.generation.new_tokens)
    with open_run("generate_text", config, config.runtime) as run:
        if config.generation.greedy and config.generation.strategy == "sample":
            say("--temperature 0 is greedy: always the most likely token")
        with connect(config.runtime):
            results = list(
                generate_texts(prompts, model, config.generation, lengths=lengths, pool=config.pool)
            )
        report_texts(run, prompts, results)
        say(f"all texts: {run.path}")
        run.say_curves()
    return 0


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
