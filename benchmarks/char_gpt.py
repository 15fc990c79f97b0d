"""Speed of the character GPT and of other implementations: training and generation, with the same sizes.

The textbook form has one module per head with three projections each, an explicit mask and softmax,
``torch.nn.Dropout`` and AdamW with their defaults; it generates by computing the whole window again for
every character. The nanoGPT-like form has one projection for all heads and fused attention. All compute
the same function, which is checked first with the same weights. There is a table in float32 and, if the
processor has instructions for it, one in bfloat16 with a fused AdamW, which separates the effects of
precision and design. Generation is also compared with Hugging Face's ``generate`` with its cache, for as
many characters as fit into its window.

Every variant runs in its own process, in turn, ``--repeats`` times; the median counts.

    python benchmarks/char_gpt.py
    python benchmarks/char_gpt.py --layers 4 --heads 4 --width 128 --context 128 --batch-size 32
"""

from __future__ import annotations

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
from char_gpt_baselines import VOCABULARY, FusedGPT, TextbookGPT, hugging_face
from torch import nn

from labs.language.char_gpt.dropout import Dropout
from labs.language.char_gpt.model import CharGPT, CharGPTConfig
from labs.language.char_gpt.writing import generate
from labs.language.sampling import SamplingConfig
from labs.runtime.machine.devices import autocast, resolve_device, resolve_precision
from labs.runtime.machine.memory import keep_freed_memory


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
    """Gradient steps per measurement, after one to warm up; 0 skips training."""

    characters: int = 1000
    """Characters to generate; 0 skips generation."""

    repeats: int = 3
    """Measurements of each variant."""

    threads: int = os.cpu_count() or 1
    """torch threads of each variant."""

    compile: bool = False
    """Measure compiled models as well (torch.compile needs a C++ compiler)."""


@dataclass(frozen=True)
class Variant:
    """A form of the model, and how it is trained."""

    form: type[nn.Module]
    bfloat16: bool = False
    """With autocast, and AdamW in one fused kernel."""

    attention_dropout: bool = False
    memory_kept: bool = False
    """As in every trial of labs: freed memory is not returned to the system."""

    torch_dropout: bool = False
    """Ours with ``torch.nn.Dropout``, which the other forms always have."""

    compiled: bool = False

    @property
    def name(self) -> str:
        """Name of its row."""
        parts = [FORMS[self.form], "bfloat16, fused AdamW" if self.bfloat16 else "float32"]
        parts += ["attention dropout"] if self.attention_dropout else []
        parts += ["memory kept"] if self.memory_kept else []
        parts += ["torch.nn.Dropout"] if self.torch_dropout else []
        return ", ".join(parts + (["compiled"] if self.compiled else []))


FORMS = {TextbookGPT: "textbook", FusedGPT: "nanoGPT-like", CharGPT: "ours"}


def training(bfloat16: bool, compiled: bool) -> list[Variant]:
    """The rows in one precision; each differs in one property from another one."""
    rows = [
        Variant(TextbookGPT, bfloat16, attention_dropout=True),
        Variant(TextbookGPT, bfloat16),
        Variant(FusedGPT, bfloat16, attention_dropout=True),
        Variant(FusedGPT, bfloat16),
        Variant(FusedGPT, bfloat16, memory_kept=True),
        Variant(CharGPT, bfloat16),
        Variant(CharGPT, bfloat16, memory_kept=True, torch_dropout=True),
        Variant(CharGPT, bfloat16, memory_kept=True),
    ]
    if compiled:
        rows += [
            Variant(FusedGPT, bfloat16, memory_kept=True, compiled=True),
            Variant(CharGPT, bfloat16, memory_kept=True, compiled=True),
        ]
    return rows


def largest_difference(config: Config) -> float:
    """Between the logits of ours and of each other form with the same weights and text."""
    model = CharGPT(config, VOCABULARY).eval()
    tokens = torch.randint(VOCABULARY, (2, config.context))
    differences = []
    for form in (TextbookGPT, FusedGPT):
        other = form(config).eval()
        other.take_weights(model)
        with torch.no_grad():
            differences.append((model(tokens) - other(tokens)).abs().max().item())
    return max(differences)


def use_torch_dropout(model: nn.Module) -> None:
    """Replace our dropout by ``torch.nn.Dropout``."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, Dropout):
                setattr(module, name, nn.Dropout(child.share))


def train(config: Config, variant: Variant) -> float:
    """Tokens per second of whole gradient steps."""
    torch.set_num_threads(config.threads)
    device = resolve_device()
    if variant.memory_kept and device.type == "cpu":
        keep_freed_memory()
    if variant.form is CharGPT:
        model: nn.Module = CharGPT(config, VOCABULARY)
    else:
        model = variant.form(config, attention_dropout=variant.attention_dropout)
    if variant.torch_dropout:
        use_torch_dropout(model)
    model = model.to(device)
    forward = torch.compile(model) if variant.compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=variant.bfloat16 or None)
    dtype = torch.bfloat16 if variant.bfloat16 else torch.float32
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


def write(config: Config, variant: str) -> float:
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

    count = config.context - 1 if ONE_WINDOW in variant else config.characters
    if variant.startswith("Hugging Face"):
        run = hugging_face(config, prompt)
    else:
        run = cached if variant.startswith("ours") else recomputed
    run(10)
    return count / timed(lambda: run(count))


ONE_WINDOW = "one window"
WRITING = [
    "textbook, the whole window each time",
    "ours",
    f"Hugging Face generate with cache, {ONE_WINDOW}",
    f"ours, {ONE_WINDOW}",
]


def timed(function: Callable[[], None]) -> float:
    """Seconds that one call takes."""
    begun = time.perf_counter()
    function()
    return time.perf_counter() - begun


def measure(
    task: Callable[[Config, Any], float], config: Config, variants: Sequence[Any], unit: str
) -> None:
    """Print a Markdown row for each variant: the median, and its ratio to the first row."""
    names = [getattr(variant, "name", variant) for variant in variants]
    speeds: list[list[float]] = [[] for _ in variants]
    for _ in range(config.repeats):
        for variant, measured in zip(variants, speeds, strict=True):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                measured.append(process.submit(task, config, variant).result())
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
    print(f"largest difference of the logits with equal weights: {largest_difference(config):.1e}")
    fast = resolve_precision("auto", device) == torch.bfloat16
    if not fast:
        print("no bfloat16: this processor has no instructions for it")
    if config.steps:
        for bfloat16 in (False, True) if fast else (False,):
            measure(train, config, training(bfloat16, config.compile), "tokens")
    if config.characters:
        measure(write, config, WRITING, "characters")


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
