"""Training a character GPT: a generator of reports."""

from __future__ import annotations

import hashlib
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tyro.conf import Fixed

from labs.language.char_gpt.corpora import Corpus
from labs.language.char_gpt.memorisation import TrainingWords
from labs.language.char_gpt.model import CharGPT, CharGPTConfig
from labs.language.char_gpt.writing import write
from labs.language.sampling import SamplingConfig
from labs.runtime.errors import InputError, require
from labs.runtime.machine.devices import Precision, autocast, resolve_device, resolve_precision
from labs.runtime.reports import Checkpoint, Report

KIND = "language.char_gpt"
METRIC = "val/loss"

_INITIALISATION, _ITERATION, _SAMPLE = range(3)  # random streams of a seed


@dataclass(frozen=True)
class CharGPTTrainConfig(CharGPTConfig):
    """The model's sizes, and how it is trained."""

    iterations: int = 600
    """Gradient steps."""

    batch_size: int = 32
    """Windows of the text per gradient step."""

    learning_rate: Fixed[float] = 2e-3  # the command line takes several: experiments/dante_gpt.py
    """Of AdamW, at its highest: it rises during the warm-up and falls to a tenth as a cosine."""

    warmup: int = 100
    """Iterations until the learning rate is at its highest."""

    weight_decay: float = 0.1
    """Of AdamW, for matrices; biases and norms do not decay."""

    gradient_clip: float = 1.0
    """Largest norm of the gradient."""

    eval_interval: int = 50
    """Iterations between two reports."""

    eval_characters: int = 20_000
    """Validate on at most so many characters, spread evenly over the validation text."""

    sample_interval: int = 200
    """Iterations between two samples of text."""

    sample_length: int = 400
    """Characters of such a sample."""

    precision: Precision = "auto"
    """auto (bfloat16 where the device is faster for it), float32 or bfloat16."""

    device: str = "auto"
    """auto (the GPU that the trial was given, else the CPU), cpu or cuda."""

    compile: bool = False
    """Compile the model with torch.compile, which takes a minute at the start."""

    seed: int = 0
    """Of the initial weights, the order of the text, the dropout and the samples."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in (
            "iterations",
            "batch_size",
            "eval_interval",
            "eval_characters",
            "sample_interval",
            "sample_length",
        ):
            require(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name in ("learning_rate", "gradient_clip"):
            value = getattr(self, name)
            require(name, value, 0 < value < math.inf, "a positive number")
        require("warmup", self.warmup, self.warmup >= 0, "0 or more")
        require("weight_decay", self.weight_decay, 0 <= self.weight_decay < math.inf, "0 or more")
        require("seed", self.seed, self.seed >= 0, "0 or more")
        if self.compile and shutil.which("g++") is None and shutil.which("clang++") is None:
            raise InputError(
                "`compile` needs a C++ compiler (g++) on the PATH: leave `compile` out"
            )


def check_length(corpus: Corpus, context: int) -> None:
    """Both parts of a text must hold a whole window and the character after it.

    Raises:
        InputError: the text is too short; the message gives the longest context that fits.
    """
    shortest = min(len(corpus.train), len(corpus.validation))
    if shortest <= context:
        total = len(corpus.train) + len(corpus.validation)
        fix = f"use `context` {shortest - 1} or less, or" if shortest > 1 else "use"
        raise InputError(
            f"{corpus.name} has {total:,} characters, and its validation part only {shortest:,},"
            f" too few for `context` {context}: {fix} a longer `text`"
        )


def train_char_gpt(
    config: CharGPTTrainConfig, resume: Checkpoint | None = None, *, corpus: Corpus
) -> Iterator[Report]:
    """Train on windows drawn at random from the text; report every ``eval_interval`` iterations.

    The step is the iteration. Losses are per character, in nats, and as ``bits_per_character`` in
    bits: the training loss is the mean over the iterations since the last report, with dropout; the
    validation loss is over fixed windows, without. Every ``sample_interval`` iterations a report
    carries a text that the model wrote, and how much of it occurs in the training text.

    Raises:
        InputError: the text is too short, or the checkpoint to resume from belongs to another text.
    """
    check_length(corpus, config.context)
    trainer = _Trainer(config, corpus)
    if resume is not None:
        trainer.restore(resume)
    while trainer.iteration < config.iterations:
        yield trainer.train_until_report()


def load_char_gpt(checkpoint: Checkpoint, device: str = "auto") -> tuple[CharGPT, str]:
    """The model of a checkpoint of kind ``language.char_gpt``, in evaluation mode; its vocabulary."""
    names = {field.name for field in fields(CharGPTConfig)}
    sizes = {name: value for name, value in checkpoint["config"].items() if name in names}
    model = CharGPT(CharGPTConfig(**sizes), len(checkpoint["vocabulary"]))
    model.load_state_dict(checkpoint["model"])
    return model.to(resolve_device(device)).eval(), checkpoint["vocabulary"]


class _Trainer:
    """A model, its optimizer, and the number of iterations done."""

    def __init__(self, config: CharGPTTrainConfig, corpus: Corpus) -> None:
        self.config, self.corpus = config, corpus
        self.iteration = 0
        self.device = resolve_device(config.device)
        self.dtype = resolve_precision(config.precision, self.device)
        torch.manual_seed(self._random_seed(_INITIALISATION))
        self.model = CharGPT(config, len(corpus.vocabulary)).to(self.device)
        self.forward = torch.compile(self.model) if config.compile else self.model
        self.optimizer = _adamw(self.model, config)
        self.words = TrainingWords(corpus.train_text)

    def _random_seed(self, stream: int, number: int = 0) -> int:
        """A seed that depends only on the run's seed, what it is for, and ``number``."""
        sequence = np.random.SeedSequence(self.config.seed, spawn_key=(stream, number))
        return int(sequence.generate_state(1, np.uint64)[0] >> 1)

    def train_until_report(self) -> Report:
        """Iterate up to the next report."""
        begun, begin = time.perf_counter(), self.iteration
        interval = self.config.eval_interval
        end = min(self.config.iterations, (begin // interval + 1) * interval)
        loss_sum = norm_sum = torch.zeros((), device=self.device)
        for _ in range(begin, end):
            loss, norm = self._step()
            loss_sum, norm_sum = loss_sum + loss, norm_sum + norm
        train_loss = loss_sum.item() / (end - begin)  # waits for the device
        seconds = time.perf_counter() - begun
        val_loss = self.evaluate()
        metrics = {
            "train/loss": train_loss,
            "train/bits_per_character": train_loss / math.log(2),
            "train/learning_rate": self.optimizer.param_groups[0]["lr"],
            "train/gradient_norm": norm_sum.item() / (end - begin),
            "val/loss": val_loss,
            "val/bits_per_character": val_loss / math.log(2),
            "time/tokens_per_second": (end - begin)
            * self.config.batch_size
            * self.config.context
            / seconds,
        }
        texts: dict[str, str] = {}
        every = self.config.sample_interval
        if end // every > begin // every or end == self.config.iterations:
            metrics |= self._sample(texts)
        return Report(end, metrics, self.checkpoint, texts)

    def _step(self) -> tuple[Tensor, Tensor]:
        """One gradient step; its loss and the gradient's norm before clipping.

        All random numbers of an iteration come from a seed of its own, so that a training that was
        interrupted continues as if it had not been.
        """
        seed = self._random_seed(_ITERATION, self.iteration)
        torch.manual_seed(seed)
        inputs, targets = self._batch(np.random.default_rng(seed))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.iteration)
        self.model.train()
        self.optimizer.zero_grad()
        loss = self._loss(inputs, targets)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        self.iteration += 1
        return loss.detach(), norm

    def _batch(self, random: np.random.Generator) -> tuple[Tensor, Tensor]:
        text, context = self.corpus.train, self.config.context
        starts = random.integers(len(text) - context, size=self.config.batch_size)
        return self._windows(text, starts)

    def _windows(self, text: np.ndarray, starts: np.ndarray) -> tuple[Tensor, Tensor]:
        """The windows that begin at ``starts``, and the same one character on: (batch, context)."""
        windows = text[starts[:, None] + np.arange(self.config.context + 1)].astype(np.int64)
        tokens = torch.from_numpy(windows).to(self.device)
        return tokens[:, :-1], tokens[:, 1:]

    def _loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy in nats."""
        with autocast(self.device, self.dtype):
            logits = self.forward(inputs)
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    @torch.no_grad()
    def evaluate(self) -> float:
        """Mean loss over the validation windows, which lie side by side where they all fit."""
        self.model.eval()
        text, context, batch = self.corpus.validation, self.config.context, self.config.batch_size
        last = len(text) - context - 1
        count = min(last // context + 1, max(1, self.config.eval_characters // context))
        starts = np.linspace(0, last, count).astype(np.int64)
        losses = [
            self._loss(*self._windows(text, part)) * len(part)
            for part in np.split(starts, range(batch, count, batch))
        ]
        return torch.stack(losses).sum().item() / count

    def _sample(self, texts: dict[str, str]) -> dict[str, float]:
        """Let the model write into ``texts``; return how much of it the training text contains."""
        seed = self._random_seed(_SAMPLE, self.iteration)
        characters = write(
            self.model,
            self.corpus.vocabulary,
            self.config.sample_length,
            SamplingConfig(),
            seed=seed,
        )
        text = "".join(characters)
        found = self.words.compare(text)
        texts["sample"] = f"```\n{text}\n```\n\n{found}"
        return {
            "sample/known_word_share": found.known_share,
            "sample/copied_words": float(found.copied_words),
        }

    def checkpoint(self) -> Checkpoint:
        """Everything needed to continue training, or to sample."""
        return {
            "kind": KIND,
            "config": asdict(self.config),
            "vocabulary": self.corpus.vocabulary,
            "text": self._fingerprint(),
            "iteration": self.iteration,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from what ``checkpoint`` returned."""
        if checkpoint["text"] != self._fingerprint():
            raise InputError(
                f"the checkpoint was trained on a different text than {self.corpus.name}:"
                " use the same `text`, or start a new run"
            )
        self.iteration = checkpoint["iteration"]
        self.model.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])

    def _fingerprint(self) -> str:
        text = self.corpus.train.tobytes() + self.corpus.vocabulary.encode()
        return hashlib.sha256(text).hexdigest()


def _adamw(model: CharGPT, config: CharGPTTrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) in one fused kernel."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99), fused=True)


def learning_rate(config: CharGPTTrainConfig, iteration: int) -> float:
    """Linear warm-up, then a cosine from ``config.learning_rate`` to a tenth of it at the end."""
    if iteration < config.warmup:
        return config.learning_rate * (iteration + 1) / (config.warmup + 1)
    progress = (iteration - config.warmup) / max(1, config.iterations - config.warmup)
    return config.learning_rate * (0.1 + 0.9 * (1 + math.cos(math.pi * progress)) / 2)
