"""Text from pre-trained causal language models, many prompts at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from labs.language.hub import find_pretrained, load_causal_model, load_tokenizer
from labs.language.pipeline import Batches, Columns, Display, PoolOptions, map_rows
from labs.language.sampling import SamplingConfig, add_gumbel_noise, filter_scores
from labs.runtime.errors import InputError, require
from labs.runtime.machine.devices import Precision, resolve_device, resolve_precision


@dataclass(frozen=True)
class GenerationConfig(SamplingConfig):
    """Which model writes, and how."""

    model: str = "gpt2"
    """Name of a causal language model on the hub, or a directory."""

    strategy: Literal["sample", "greedy", "beam"] = "sample"
    """sample draws with temperature, top-k and top-p; greedy always takes the most likely token, as
    temperature 0 does; beam searches for the most likely text."""

    new_tokens: int = 60
    """Tokens to add; fewer where the model ends its text."""

    sequences: int = 1
    """Texts for each prompt."""

    beams: int = 4
    """Texts that a beam search keeps at once."""

    batch_size: int = 8
    """Prompts that run together; the texts do not depend on it."""

    precision: Precision = "auto"
    """auto (bfloat16 where the device is faster for it), float32 or bfloat16. In float32 a text does
    not depend on its batch; bfloat16's rounding can tip the choice between two
    tokens that are nearly as likely."""

    seed: int = 0
    """Of the random draws. Each prompt has its own random numbers, by its position in the list."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("new_tokens", "sequences", "beams", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"`{name}` {getattr(self, name)} must be at least 1")
        require("seed", self.seed, self.seed >= 0, "0 or more")
        if self.greedy and self.sequences > 1:
            raise InputError(
                f"`sequences` {self.sequences} would be the same text every time: greedy writes one;"
                " use `strategy` sample or beam"
            )
        if self.strategy == "beam" and self.sequences > self.beams:
            raise InputError(
                f"`sequences` {self.sequences} is more than `beams` {self.beams} can find:"
                f" use `beams` {self.sequences}"
            )

    @property
    def greedy(self) -> bool:
        """Whether each token is the most likely one."""
        return self.strategy == "greedy" or (self.strategy == "sample" and self.temperature == 0)


class TextGenerator:
    """Continues batches of prompts: a worker of ``labs.language.pipeline.map_rows``.

    Args:
        directory: of the model, as ``find_pretrained`` gives it.
        config: how to write; its ``model`` is not used.
        device: as for ``resolve_device``.
    """

    def __init__(self, directory: str, config: GenerationConfig, device: str = "auto") -> None:
        self.config = config
        self.device = resolve_device(device)
        dtype = resolve_precision(config.precision, self.device)
        path = find_pretrained(directory, "model")
        self.tokenizer = load_tokenizer(path, "model")
        self.model = load_causal_model(path, "model", dtype).to(self.device)
        self.tokenizer.padding_side = "left"  # the text continues where the prompt ends
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token  # masked, so any token would do

    def __call__(self, batch: Columns) -> Columns:
        """Continue ``prompt`` (strings); ``number`` is each one's position among all prompts.

        Returns:
            ``text_0``, ``text_1``, ...: what follows each prompt, one column per sequence.
        """
        prompts = [prompt or start_token(self.tokenizer) for prompt in batch["prompt"]]
        tokens = self.tokenizer(prompts, return_tensors="pt", padding=True).to(self.device)
        sequences = self.config.sequences
        searching = self.config.strategy == "beam"
        copies = 1 if searching else sequences
        processors = []
        if not searching and not self.config.greedy:
            processors = _sampling(self.config, _streams(self.config, batch["number"], self.device))
        with torch.inference_mode():
            output = self.model.generate(
                tokens["input_ids"].repeat_interleave(copies, 0),
                attention_mask=tokens["attention_mask"].repeat_interleave(copies, 0),
                generation_config=self._generation_config(searching),
                logits_processor=processors,
            )
        new = output[:, tokens["input_ids"].shape[1] :]
        texts = np.array(self.tokenizer.batch_decode(new, skip_special_tokens=True), dtype=object)
        texts = texts.reshape(len(prompts), sequences)
        return {f"text_{index}": texts[:, index] for index in range(sequences)}

    def _generation_config(self, searching: bool) -> Any:
        """A complete one: the model's own generation_config.json must not mix with the options."""
        from transformers import GenerationConfig as Settings

        own = self.model.generation_config
        return Settings(
            max_new_tokens=self.config.new_tokens,
            do_sample=False,
            num_beams=self.config.beams if searching else 1,
            num_return_sequences=self.config.sequences if searching else 1,
            bos_token_id=own.bos_token_id,
            eos_token_id=own.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
        )


def _streams(
    config: GenerationConfig, numbers: np.ndarray, device: torch.device
) -> list[torch.Generator]:
    """Make a random generator per text, from the seed and the number of its prompt only.

    Batches, actors and their order change nothing.
    """
    seeds = [
        np.random.SeedSequence(config.seed, spawn_key=(int(number), sequence))
        for number in numbers
        for sequence in range(config.sequences)
    ]
    return [
        torch.Generator(device).manual_seed(int(seed.generate_state(1, np.uint64)[0] >> 1))
        for seed in seeds
    ]


def _sampling(config: GenerationConfig, streams: Sequence[torch.Generator]) -> list[Any]:
    """A logits processor after which the most likely token is a draw from the distribution."""
    from transformers.generation.logits_process import LogitsProcessor

    class Draw(LogitsProcessor):
        def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
            """(batch, tokens so far) and (batch, vocabulary) to (batch, vocabulary)."""
            return add_gumbel_noise(filter_scores(scores, config), streams)

    return [Draw()]


def start_token(tokenizer: Any) -> str:
    """What a text without a prompt begins after.

    Raises:
        InputError: the tokenizer has no such token.
    """
    token = tokenizer.bos_token or tokenizer.eos_token
    if token is None:
        raise InputError(
            "this model cannot start from an empty prompt: give every prompt at least one word"
        )
    return token


def prompt_lengths(
    prompts: Sequence[str], directory: Path, tokenizer: Any, new_tokens: int
) -> np.ndarray:
    """Tokens of each prompt: (prompts,) int64.

    Raises:
        InputError: a prompt and ``new_tokens`` together are longer than the model's context.
    """
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(directory, local_files_only=True)
    limit = getattr(config, "max_position_embeddings", None)
    lengths = [len(tokenizer(prompt or start_token(tokenizer))["input_ids"]) for prompt in prompts]
    for number, length in enumerate(lengths):
        if limit is not None and length + new_tokens > limit:
            raise InputError(
                f"prompt {number + 1} has {length:,} tokens, and with `new_tokens` {new_tokens} that"
                f" is more than the {limit:,} of the model: shorten it"
            )
    return np.array(lengths, dtype=np.int64)


def generate_texts(
    prompts: Sequence[str],
    directory: Path,
    config: GenerationConfig,
    *,
    lengths: np.ndarray,
    pool: PoolOptions | None = None,
    in_process: bool | None = None,
    progress: bool = True,
) -> Iterator[list[str]]:
    """The texts that follow each prompt, in the order of the prompts.

    Args:
        prompts: may be empty strings.
        directory: of the model.
        config: how to write.
        lengths: of the prompts in tokens; those of about the same length run together.
        pool: how many copies of the model, on what; see ``labs.language.pipeline``.
        in_process: run here instead of in Ray actors; by default only in local mode.
        progress: show the prompts per second and the time left.

    Yields:
        ``config.sequences`` texts per prompt.
    """
    rows = pa.table({"prompt": list(prompts), "number": range(len(prompts))})
    results = map_rows(
        TextGenerator,
        {"directory": str(directory), "config": config},
        rows,
        Batches(config.batch_size, lengths + config.new_tokens),
        pool=pool,
        in_process=in_process,
        display=Display("prompts", progress),
    )
    names = [f"text_{index}" for index in range(config.sequences)]
    for result in results:
        yield from (list(texts) for texts in zip(*(result[name] for name in names), strict=True))
