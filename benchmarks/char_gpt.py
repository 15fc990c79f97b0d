"""The character GPT beside its textbook form: training and generation, on the same sizes.

The textbook form has one module per head with three projections each, an explicit mask and softmax,
``torch.nn.Dropout`` and AdamW as they come, in float32; it generates by computing the whole window
anew for every character. Both compute the same function, which is checked first on common weights.

Every contestant runs in a process of its own, in turn, ``--repeats`` times; the best counts.

    python benchmarks/char_gpt.py
    python benchmarks/char_gpt.py --layers 4 --heads 4 --width 128 --context 128 --batch-size 32
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from labs.language.char_gpt.model import CharGPT, CharGPTConfig
from labs.language.char_gpt.writing import generate
from labs.language.sampling import SamplingConfig
from labs.runtime.machine.devices import autocast, resolve_device, resolve_precision
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

    repeats: int = 2
    """Measurements of each contestant."""

    threads: int = os.cpu_count() or 1
    """torch threads of each contestant."""

    compile: bool = False
    """Measure the compiled model as well."""


class Head(nn.Module):
    """One head of attention, as the textbooks have it."""

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
            size = own.attention.project_out.weight.shape[0] // len(block.heads)
            weights = own.attention.project_in.weight.data.split(size)
            biases = own.attention.project_in.bias.data.split(size)
            for number, head in enumerate(block.heads):
                for part, layer in enumerate((head.query, head.key, head.value)):
                    layer.weight.data.copy_(weights[part * len(block.heads) + number])
                    layer.bias.data.copy_(biases[part * len(block.heads) + number])
            block.project.load_state_dict(own.attention.project_out.state_dict())
            block.feed_forward[0].load_state_dict(own.expand.state_dict())
            block.feed_forward[2].load_state_dict(own.contract.state_dict())
            block.norm1.load_state_dict(own.attention_norm.state_dict())
            block.norm2.load_state_dict(own.feed_forward_norm.state_dict())


def largest_difference(config: Config) -> float:
    """Between the logits of the two forms on the same weights and text."""
    model, textbook = CharGPT(config, VOCABULARY).eval(), TextbookGPT(config).eval()
    textbook.take_weights(model)
    tokens = torch.randint(VOCABULARY, (2, config.context))
    with torch.no_grad():
        return (model(tokens) - textbook(tokens)).abs().max().item()


def train(config: Config, contestant: str) -> float:
    """Tokens per second of whole gradient steps."""
    torch.set_num_threads(config.threads)
    device = resolve_device()
    ours = contestant.startswith("ours")
    if "memory" in contestant or (ours and device.type == "cpu"):
        keep_freed_memory()
    if ours:
        model: nn.Module = CharGPT(config, VOCABULARY)
    else:
        model = TextbookGPT(config, attention_dropout="no attention dropout" not in contestant)
    model = model.to(device)
    forward = torch.compile(model) if "compiled" in contestant else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=ours or None)
    dtype = resolve_precision("auto", device) if ours else torch.float32
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

    run = cached if contestant.startswith("ours") else recomputed
    run(10)
    return config.characters / timed(lambda: run(config.characters))


def timed(function: Callable[[], None]) -> float:
    """Seconds that one call takes."""
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def measure(
    task: Callable[[Config, str], float], config: Config, contestants: list[str], unit: str
) -> None:
    """Print the best of each contestant, and what ours is to it."""
    best = dict.fromkeys(contestants, 0.0)
    for _ in range(config.repeats):
        for contestant in contestants:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                speed = process.submit(task, config, contestant).result()
            best[contestant] = max(best[contestant], speed)
    for contestant, speed in best.items():
        ratio = best["ours"] / speed
        print(f"{contestant:56s} {speed:10,.0f} {unit}/s   ours is {ratio:5.2f} times as fast")


def main(config: Config) -> None:
    device = resolve_device()
    print(
        f"{config.layers} layers, {config.heads} heads, width {config.width}, context"
        f" {config.context}, batch {config.batch_size}; {device.type}, {config.threads} threads,"
        f" ours in {resolve_precision('auto', device)}; torch {torch.__version__}"
    )
    print(f"largest difference of the logits on common weights: {largest_difference(config):.1e}")
    forms = [
        "textbook",
        "textbook, no attention dropout",
        "textbook, no attention dropout, memory kept",
        "ours",
    ]
    forms += ["ours, compiled"] if config.compile else []
    if config.steps:
        measure(train, config, forms, "tokens")
    if config.characters:
        measure(write, config, ["textbook, the whole window each time", "ours"], "characters")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
