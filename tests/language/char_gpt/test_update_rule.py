"""Every part of a training step, against a loop that is written out here."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from labs.language.char_gpt import training
from labs.language.char_gpt.corpora import Corpus, build_corpus
from labs.language.char_gpt.dropout import Dropout
from labs.language.char_gpt.model import CharGPT
from labs.language.char_gpt.training import CharGPTTrainConfig, load_char_gpt, train_char_gpt
from labs.language.char_gpt.writing import window_start, write
from labs.language.sampling import SamplingConfig
from labs.runtime.reports import Report

CONFIG = CharGPTTrainConfig(
    layers=2, heads=2, width=16, context=12, dropout=0.3, batch_size=5, iterations=11, warmup=4,
    learning_rate=0.02, weight_decay=0.7, gradient_clip=0.4, eval_interval=4, sample_interval=100,
    sample_length=5, precision="float32", device="cpu", seed=3,
)  # fmt: skip
"""Strong decay, and a clip below every gradient's norm: what is left out changes the weights."""


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    rng = np.random.default_rng(11)
    return build_corpus("letters", "".join(rng.choice(list("abcdefgh \n"), 3000)))


@pytest.fixture(scope="module")
def reports(corpus: Corpus) -> list[Report]:
    return list(train_char_gpt(CONFIG, corpus=corpus))


def seed_of(stream: int, number: int) -> int:
    sequence = np.random.SeedSequence(CONFIG.seed, spawn_key=(stream, number))
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


def rate(iteration: int) -> float:
    """Linear over the warm-up, then half a cosine down to a tenth."""
    if iteration < CONFIG.warmup:
        return CONFIG.learning_rate * (iteration + 1) / (CONFIG.warmup + 1)
    done = (iteration - CONFIG.warmup) / (CONFIG.iterations - CONFIG.warmup)
    return CONFIG.learning_rate * (0.55 + 0.45 * math.cos(math.pi * done))


def trained_by_hand(corpus: Corpus, iterations: int) -> tuple[CharGPT, list[float], list[float]]:
    """AdamW (Loshchilov and Hutter 2019, algorithm 2) and clipping by the global norm, in NumPy's
    way; the model, and the loss and the gradient's norm of every iteration."""
    torch.manual_seed(seed_of(0, 0))
    model = CharGPT(CONFIG, len(corpus.vocabulary)).train()
    first = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    second = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    losses, norms = [], []
    for iteration in range(iterations):
        seed = seed_of(1, iteration)
        torch.manual_seed(seed)
        starts = np.random.default_rng(seed).integers(
            len(corpus.train) - CONFIG.context, size=CONFIG.batch_size
        )
        rows = [corpus.train[s : s + CONFIG.context + 1].astype(np.int64) for s in starts]
        windows = torch.from_numpy(np.stack(rows))
        logits = model(windows[:, :-1])
        loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), windows[:, 1:].reshape(-1))
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        norm = math.sqrt(sum(g.double().square().sum().item() for g in gradients))
        scale = min(1.0, CONFIG.gradient_clip / norm)
        with torch.no_grad():
            for (name, weight), gradient in zip(model.named_parameters(), gradients, strict=True):
                g = gradient * scale
                first[name].mul_(0.9).add_(0.1 * g)
                second[name].mul_(0.99).add_(0.01 * g * g)
                mean = first[name] / (1 - 0.9 ** (iteration + 1))
                square = second[name] / (1 - 0.99 ** (iteration + 1))
                if weight.dim() > 1:  # matrices decay; biases and norms do not
                    weight.mul_(1 - rate(iteration) * CONFIG.weight_decay)
                weight.sub_(rate(iteration) * mean / (square.sqrt() + 1e-8))
        losses.append(loss.item())
        norms.append(norm)
    return model, losses, norms


def test_weights_are_those_of_a_loop_written_out(corpus: Corpus, reports: list[Report]) -> None:
    model, losses, norms = trained_by_hand(corpus, CONFIG.iterations)
    assert min(norms) > CONFIG.gradient_clip  # every step is clipped, or the test would not see it
    found = reports[-1].checkpoint()["model"]
    for name, weight in model.state_dict().items():
        ours, theirs = found[name].clone(), weight.clone()
        if name.endswith("project_in.bias"):
            # A key's bias adds the same to all scores of a row: its gradient is zero but for
            # rounding, which Adam scales up.
            ours[CONFIG.width : 2 * CONFIG.width] = theirs[CONFIG.width : 2 * CONFIG.width] = 0
        torch.testing.assert_close(ours, theirs, atol=5e-5, rtol=1e-3)
    for report, (start, end) in zip(reports, ((0, 4), (4, 8), (8, 11)), strict=True):
        metrics, loss = report.metrics, np.mean(losses[start:end])
        assert metrics["train/loss"] == pytest.approx(loss)
        assert 2 ** metrics["train/bits_per_character"] == pytest.approx(math.exp(loss))
        mean_norm = np.mean(norms[start:end])
        assert metrics["train/gradient_norm"] == pytest.approx(mean_norm, rel=1e-4)
        assert metrics["train/learning_rate"] == pytest.approx(rate(end - 1))


def test_a_sample_has_random_numbers_of_its_iteration(corpus: Corpus) -> None:
    config = replace(CONFIG, sample_interval=4, sample_length=30)
    for report in train_char_gpt(config, corpus=corpus):
        model, vocabulary = load_char_gpt(report.checkpoint(), "cpu")
        written = write(model, vocabulary, 30, SamplingConfig(), seed=seed_of(2, report.step))
        assert report.texts["sample"].split("```\n")[1] == "".join(written) + "\n"


@pytest.mark.parametrize(("characters", "count"), [(20_000, 24), (90, 7)])
def test_the_validation_loss_is_the_mean_over_windows_to_the_text_s_end(
    corpus: Corpus, characters: int, count: int
) -> None:
    """Of 300 characters: all 24 windows, in batches of 5 and one of 4, or 7 spread evenly."""
    config = replace(CONFIG, iterations=1, eval_characters=characters)
    (report,) = train_char_gpt(config, corpus=corpus)
    model, _ = load_char_gpt(report.checkpoint(), "cpu")
    text, context = corpus.validation.astype(np.int64), CONFIG.context
    assert len(text) == 300
    losses = []
    for number in range(count):
        start = number * (300 - context - 1) // (count - 1)
        scores = model(torch.from_numpy(text[None, start : start + context]))[0].double()
        chosen = scores.log_softmax(1)[range(context), text[start + 1 : start + 1 + context]]
        losses.append(-chosen.mean().item())
    loss = np.mean(losses)
    assert np.std(losses) > 1e-3  # one window more or less would show
    assert report.metrics["val/loss"] == pytest.approx(loss, rel=1e-6)
    assert 2 ** report.metrics["val/bits_per_character"] == pytest.approx(math.exp(loss))


def test_the_loss_is_computed_in_float32_of_bfloat16_scores(corpus: Corpus) -> None:
    """A loss in bfloat16 has two or three digits."""
    config = replace(CONFIG, iterations=1, precision="bfloat16", eval_characters=60)
    (report,) = train_char_gpt(config, corpus=corpus)
    model, _ = load_char_gpt(report.checkpoint(), "cpu")
    text, context = corpus.validation.astype(np.int64), CONFIG.context
    losses = []
    for number in range(5):
        start = number * (300 - context - 1) // 4
        with torch.autocast("cpu", torch.bfloat16):
            scores = model(torch.from_numpy(text[None, start : start + context]))[0]
        assert scores.dtype == torch.bfloat16
        chosen = scores.double().log_softmax(1)[range(context), text[start + 1 :][:context]]
        losses.append(-chosen.mean().item())
    assert report.metrics["val/loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_tokens_per_second_are_those_of_the_training_steps_alone(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that moves 0.5 s in every step, and 100 s in every validation and sample."""
    clock = 7.0
    step, evaluate = training._Trainer._step, training._Trainer.evaluate

    def timed_step(self: training._Trainer) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal clock
        clock += 0.5
        return step(self)

    def timed_evaluate(self: training._Trainer) -> float:
        nonlocal clock
        clock += 100
        return evaluate(self)

    monkeypatch.setattr(training._Trainer, "_step", timed_step)
    monkeypatch.setattr(training._Trainer, "evaluate", timed_evaluate)
    monkeypatch.setattr(training.time, "perf_counter", lambda: clock)
    speeds = [r.metrics["time/tokens_per_second"] for r in train_char_gpt(CONFIG, corpus=corpus)]
    assert speeds == pytest.approx([5 * 12 / 0.5] * 3)  # batch 5, context 12


def test_dropout_is_active_in_training_and_off_in_validation(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the embeddings and after both branches of both blocks, at its share."""
    shares: dict[bool, list[float]] = {True: [], False: []}
    forward = Dropout.forward

    def recorded(module: Dropout, x: torch.Tensor) -> torch.Tensor:
        out = forward(module, x)
        dropped = (out == 0) & (x != 0)
        shares[module.training].append(dropped.float().mean().item())
        return out

    monkeypatch.setattr(Dropout, "forward", recorded)
    config = replace(CONFIG, iterations=20, eval_interval=20, batch_size=16)
    list(train_char_gpt(config, corpus=corpus))
    assert len(shares[True]) == 20 * 5
    assert np.mean(shares[True]) == pytest.approx(0.3, abs=0.01)
    assert min(shares[True]) > 0.2
    assert shares[False] and set(shares[False]) == {0.0}


def test_the_cached_text_is_the_uncached_one(reports: list[Report], corpus: Corpus) -> None:
    """Greedy text far beyond the context, each character from a whole window computed afresh."""
    model, vocabulary = load_char_gpt(reports[-1].checkpoint(), "cpu")
    with torch.no_grad():  # sharper scores, so that greedy text is not one letter
        model.head.weight *= 20
    text = "abc"
    written = "".join(write(model, vocabulary, 40, SamplingConfig(temperature=0), text))
    index = {c: i for i, c in enumerate(vocabulary)}
    for _ in range(40):
        seen = text[window_start(len(text), CONFIG.context) :]
        scores = model(torch.tensor([[index[c] for c in seen]]))[0, -1]
        text += vocabulary[int(scores.argmax())]
    assert text == "abc" + written
