"""The character GPT beside other forms of the same: training and generation, on the same sizes.

The textbook form has one module per head with three projections each, an explicit mask and softmax,
``torch.nn.Dropout`` and AdamW as they come; it generates by computing the whole window anew for every
character. The nanoGPT-like form has one projection for all heads and fused attention. All compute the
same function, which is checked first on common weights. Each has a row in float32 and one in bfloat16
with a fused AdamW, so that what precision gives is not taken for what the design gives. Beside generation
stands Hugging Face's ``generate`` with its cache, for as many characters as fit into its window.

Every contestant runs in a process of its own, in turn, ``--repeats`` times; the median counts.

    python benchmarks/char_gpt.py
    python benchmarks/char_gpt.py --layers 4 --heads 4 --width 128 --context 128 --batch-size 32
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from labs.language.char_gpt.model import Block, CharGPT, CharGPTConfig
from labs.language.char_gpt.writing import generate
from labs.language.sampling import SamplingConfig
from labs.runtime.machine.devices import autocast, resolve_device
from labs.runtime.machine.memory import keep_freed_memory

VOCABULARY = 72


@dataclass(frozen=True)
class Config(CharGPTConfig):
    """Options of the benchmark; the default sizes are those of --preset paper, at a smaller batch."""

    layers: int = 6
    heads: int = 6
    width: int = 384
    context: int = 256
    dropout: float = 0.2

    batch_size: int = 12
    """Windows per gradient step."""

    steps: int = 3
    """Gradient steps per measurement, after one to warm up; 0 leaves training out."""

    characters: int = 1000
    """Characters to generate; 0 leaves generation out."""

    repeats: int = 3
    """Measurements of each contestant."""

    threads: int = os.cpu_count() or 1
    """torch threads of each contestant."""

    compile: bool = False
    """Measure the compiled model as well."""


class Head(nn.Module):
    """One head of attention, as the textbooks have it."""

    past: Tensor
    """1 where a position (row) may look at another one (column), else 0."""

    def __init__(self, config: CharGPTConfig, attention_dropout: bool) -> None:
        super().__init__()
        size = config.width // config.heads
        self.key = nn.Linear(config.width, size)
        self.query = nn.Linear(config.width, size)
        self.value = nn.Linear(config.width, size)
        self.register_buffer("past", torch.tril(torch.ones(config.context, config.context)))
        self.dropout = nn.Dropout(config.dropout if attention_dropout else 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, width) to (batch, time, width / heads)."""
        time = x.shape[1]
        key, query = self.key(x), self.query(x)
        weights = query @ key.transpose(-2, -1) * key.shape[-1] ** -0.5
        weights = weights.masked_fill(self.past[:time, :time] == 0, -math.inf)
        return self.dropout(F.softmax(weights, dim=-1)) @ self.value(x)


class TextbookBlock(nn.Module):
    """Heads side by side, then a feed-forward network."""

    def __init__(self, config: CharGPTConfig, attention_dropout: bool) -> None:
        super().__init__()
        width = config.width
        self.heads = nn.ModuleList(Head(config, attention_dropout) for _ in range(config.heads))
        self.project = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, width) to the same shape."""
        normed = self.norm1(x)
        mixed = torch.cat([head(normed) for head in self.heads], dim=-1)
        x = x + self.dropout(self.project(mixed))
        return x + self.dropout(self.feed_forward(self.norm2(x)))


class TextbookGPT(nn.Module):
    """The same function as :class:`CharGPT`."""

    def __init__(self, config: CharGPTConfig, attention_dropout: bool = True) -> None:
        super().__init__()
        self.characters = nn.Embedding(VOCABULARY, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.blocks = nn.Sequential(
            *(TextbookBlock(config, attention_dropout) for _ in range(config.layers))
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, VOCABULARY, bias=False)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, time) int64 to (batch, time, vocabulary) logits."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.dropout(self.characters(tokens) + self.positions(positions))
        return self.head(self.norm(self.blocks(x)))

    def take_weights(self, model: CharGPT) -> None:
        """Become the same function as ``model``."""
        for name in ("characters", "positions", "norm", "head"):
            getattr(self, name).load_state_dict(getattr(model, name).state_dict())
        for block, own in zip(self.blocks, model.blocks, strict=True):
            assert isinstance(block, TextbookBlock) and isinstance(own, Block)
            size = own.attention.project_out.weight.shape[0] // len(block.heads)
            weights = own.attention.project_in.weight.data.split(size)
            biases = own.attention.project_in.bias.data.split(size)
            for number, head in enumerate(block.heads):
                assert isinstance(head, Head)
                for part, layer in enumerate((head.query, head.key, head.value)):
                    layer.weight.data.copy_(weights[part * len(block.heads) + number])
                    layer.bias.data.copy_(biases[part * len(block.heads) + number])
            block.project.load_state_dict(own.attention.project_out.state_dict())
            block.feed_forward[0].load_state_dict(own.expand.state_dict())
            block.feed_forward[2].load_state_dict(own.contract.state_dict())
            block.norm1.load_state_dict(own.attention_norm.state_dict())
            block.norm2.load_state_dict(own.feed_forward_norm.state_dict())


class FusedBlock(nn.Module):
    """One projection for all heads and fused attention, as nanoGPT has it."""

    def __init__(self, config: CharGPTConfig, attention_dropout: bool) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.attend = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)
        self.dropped = config.dropout if attention_dropout else 0.0

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, width) to the same shape."""
        batch, time, width = x.shape
        parts = self.attend(self.norm1(x)).split(width, dim=2)
        query, key, value = (
            part.view(batch, time, self.heads, width // self.heads).transpose(1, 2)
            for part in parts
        )
        mixed = F.scaled_dot_product_attention(
            query, key, value, dropout_p=self.dropped if self.training else 0.0, is_causal=True
        )
        mixed = mixed.transpose(1, 2).contiguous().view(batch, time, width)
        x = x + self.dropout(self.project(mixed))
        return x + self.dropout(self.contract(F.gelu(self.expand(self.norm2(x)))))


class FusedGPT(TextbookGPT):
    """The textbook form with nanoGPT's blocks."""

    def __init__(self, config: CharGPTConfig, attention_dropout: bool = True) -> None:
        super().__init__(config, attention_dropout)
        self.blocks = nn.Sequential(
            *(FusedBlock(config, attention_dropout) for _ in range(config.layers))
        )

    def take_weights(self, model: CharGPT) -> None:
        """Become the same function as ``model``."""
        for name in ("characters", "positions", "norm", "head"):
            getattr(self, name).load_state_dict(getattr(model, name).state_dict())
        for block, own in zip(self.blocks, model.blocks, strict=True):
            assert isinstance(block, FusedBlock) and isinstance(own, Block)
            block.attend.load_state_dict(own.attention.project_in.state_dict())
            block.project.load_state_dict(own.attention.project_out.state_dict())
            block.expand.load_state_dict(own.expand.state_dict())
            block.contract.load_state_dict(own.contract.state_dict())
            block.norm1.load_state_dict(own.attention_norm.state_dict())
            block.norm2.load_state_dict(own.feed_forward_norm.state_dict())


@dataclass(frozen=True)
class Contestant:
    """A way to train."""

    form: type[nn.Module]
    bfloat16: bool = False
    """With autocast, and AdamW in one fused kernel."""

    attention_dropout: bool = True
    memory_kept: bool = False
    compiled: bool = False

    @property
    def name(self) -> str:
        """What its row is called."""
        parts = [FORMS[self.form], "bfloat16, fused AdamW" if self.bfloat16 else "float32"]
        if self.form is not CharGPT:
            parts += [] if self.attention_dropout else ["no attention dropout"]
            parts += ["memory kept"] if self.memory_kept else []
        return ", ".join(parts + (["compiled"] if self.compiled else []))


FORMS = {TextbookGPT: "textbook", FusedGPT: "nanoGPT-like", CharGPT: "ours"}
TRAINING = [
    Contestant(TextbookGPT),
    Contestant(TextbookGPT, attention_dropout=False),
    Contestant(TextbookGPT, bfloat16=True),
    Contestant(TextbookGPT, bfloat16=True, attention_dropout=False),
    Contestant(FusedGPT, attention_dropout=False),
    Contestant(FusedGPT, bfloat16=True),
    Contestant(FusedGPT, bfloat16=True, attention_dropout=False),
    Contestant(FusedGPT, bfloat16=True, attention_dropout=False, memory_kept=True),
    Contestant(CharGPT, memory_kept=True),
    Contestant(CharGPT, bfloat16=True, memory_kept=True),
]


def largest_difference(config: Config) -> float:
    """Between the logits of ours and of each other form on the same weights and text."""
    model = CharGPT(config, VOCABULARY).eval()
    tokens = torch.randint(VOCABULARY, (2, config.context))
    differences = []
    for form in (TextbookGPT, FusedGPT):
        other = form(config).eval()
        other.take_weights(model)
        with torch.no_grad():
            differences.append((model(tokens) - other(tokens)).abs().max().item())
    return max(differences)


def train(config: Config, contestant: Contestant) -> float:
    """Tokens per second of whole gradient steps."""
    torch.set_num_threads(config.threads)
    device = resolve_device()
    if contestant.memory_kept and device.type == "cpu":
        keep_freed_memory()
    if contestant.form is CharGPT:
        model: nn.Module = CharGPT(config, VOCABULARY)
    else:
        model = contestant.form(config, attention_dropout=contestant.attention_dropout)
    model = model.to(device)
    forward = torch.compile(model) if contestant.compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=contestant.bfloat16 or None)
    dtype = torch.bfloat16 if contestant.bfloat16 else torch.float32
    tokens = torch.randint(VOCABULARY, (config.batch_size, config.context + 1), device=device)

    def step() -> None:
        with autocast(device, dtype):
            logits = forward(tokens[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1).float(), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        loss.item()  # waits for the device

    step()
    seconds = min(timed(step) for _ in range(config.steps))
    return config.batch_size * config.context / seconds


def write(config: Config, contestant: str) -> float:
    """Characters per second."""
    torch.set_num_threads(config.threads)
    device = resolve_device()
    model = CharGPT(config, VOCABULARY).to(device).eval()
    textbook = TextbookGPT(config).to(device).eval()
    textbook.take_weights(model)
    prompt = torch.zeros(1, 1, dtype=torch.int64, device=device)
    sampling = SamplingConfig(temperature=1.0)

    def cached(length: int) -> None:
        for index in generate(model, prompt, length, sampling):
            index.item()

    @torch.inference_mode()
    def recomputed(length: int) -> None:
        text = prompt
        for _ in range(length):
            logits = textbook(text[:, -config.context :])[:, -1]
            text = torch.cat([text, torch.multinomial(logits.softmax(-1), 1)], dim=1)

    count = config.context - 1 if ONE_WINDOW in contestant else config.characters
    if contestant.startswith("Hugging Face"):
        run = hugging_face(config, prompt)
    else:
        run = cached if contestant.startswith("ours") else recomputed
    run(10)
    return count / timed(lambda: run(count))


ONE_WINDOW = "one window"
WRITING = [
    "textbook, the whole window each time",
    "ours",
    f"Hugging Face generate with cache, {ONE_WINDOW}",
    f"ours, {ONE_WINDOW}",
]


def hugging_face(config: Config, prompt: Tensor) -> Callable[[int], None]:
    """GPT-2 of the same sizes; its random weights do not matter for the speed."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=config.context,
        n_embd=config.width,
        n_layer=config.layers,
        n_head=config.heads,
        bos_token_id=0,
        eos_token_id=None,
    )
    model = GPT2LMHeadModel(sizes).eval()
    nn.Module.to(model, prompt.device)  # the method of transformers hides the types of torch's
    mask = torch.ones_like(prompt)

    @torch.inference_mode()
    def run(length: int) -> None:
        model.generate(
            prompt,
            attention_mask=mask,
            do_sample=True,
            top_k=0,
            min_new_tokens=length,
            max_new_tokens=length,
            pad_token_id=0,
        )

    return run


def timed(function: Callable[[], None]) -> float:
    """Seconds that one call takes."""
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def measure(
    task: Callable[[Config, Any], float], config: Config, contestants: Sequence[Any], unit: str
) -> None:
    """A row of Markdown for each contestant: the median, and what it is to the first."""
    names = [getattr(contestant, "name", contestant) for contestant in contestants]
    speeds: list[list[float]] = [[] for _ in contestants]
    for _ in range(config.repeats):
        for contestant, measured in zip(contestants, speeds, strict=True):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                measured.append(process.submit(task, config, contestant).result())
    medians = [statistics.median(measured) for measured in speeds]
    print(f"| | {unit}/s | times the first row |\n|---|---|---|")
    for name, speed in zip(names, medians, strict=True):
        print(f"| {name} | {speed:,.0f} | {speed / medians[0]:.2f} |", flush=True)


def main(config: Config) -> None:
    """Check that all forms agree, then print the speed of each."""
    device = resolve_device()
    print(
        f"{config.layers} layers, {config.heads} heads, width {config.width}, context"
        f" {config.context}, batch {config.batch_size}; {device.type}, {config.threads} threads;"
        f" torch {torch.__version__}; median of {config.repeats}"
    )
    print(f"largest difference of the logits on common weights: {largest_difference(config):.1e}")
    compiled = Contestant(CharGPT, bfloat16=True, memory_kept=True, compiled=True)
    if config.steps:
        measure(train, config, TRAINING + [compiled] * config.compile, "tokens")
    if config.characters:
        measure(write, config, WRITING, "characters")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
