"""How many tokens does a text take? A tokenizer is enough: no model is loaded.

    python experiments/count_tokens.py                              # GPT-2's, on Dante's Inferno
    python experiments/count_tokens.py --tokenizer DIR --text FILE

English prose (Python's help topics) is counted too, for comparison: GPT-2's tokenizer was
trained on English, and needs about 1.7 times as many tokens per character for Italian.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from labs.analysis.report.page import open_run
from labs.language.char_gpt.corpora import embedded_english, load_text
from labs.language.generation.tokens import count_tokens, frequency_table, summary_table
from labs.language.hub import find_pretrained, load_tokenizer
from labs.runtime.cli import launch
from labs.runtime.loop.console import say, show_table
from labs.runtime.options import RuntimeOptions


@dataclass(frozen=True)
class Config:
    """Options of the token count."""

    tokenizer: str = "gpt2"
    """A hub name, or a directory, which may contain only GPT-2's vocab.json and merges.txt."""

    text: Path | None = None
    """The text whose tokens are counted. The default is Dante's Inferno, from Project Gutenberg."""

    data_dir: Path = Path("data")
    """Where the Inferno is kept once it has been downloaded."""

    runtime: tyro.conf.OmitArgPrefixes[RuntimeOptions] = field(default_factory=RuntimeOptions)


def main(config: Config) -> int:
    """Count the tokens of the text and of English prose."""
    path = find_pretrained(config.tokenizer, "tokenizer", weights=False)
    tokenizer = load_tokenizer(path, "tokenizer")
    texts = dict([load_text(config.text, config.data_dir, say)])
    texts.setdefault("pydoc_data.topics (English)", embedded_english())
    counts = [count_tokens(name, text, tokenizer) for name, text in texts.items()]
    with open_run("count_tokens", config, config.runtime) as run:
        for count in counts:
            say(str(count))
        run.add_table("tokens", summary_table(counts))
        run.add_table("frequent_tokens", frequency_table(counts))
        show_table(frequency_table(counts))
        say(f"tables: {run.path}")
    return 0


if __name__ == "__main__":
    launch(main, Config)
