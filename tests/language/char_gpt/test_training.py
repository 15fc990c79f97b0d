"""Training: it learns, it reports what it says, and it resumes as if it had not stopped."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch

from labs.language.char_gpt.corpora import Corpus, build_corpus, read_text
from labs.language.char_gpt.training import (
    CharGPTTrainConfig,
    check_length,
    learning_rate,
    load_char_gpt,
    train_char_gpt,
)
from labs.language.char_gpt.writing import write
from labs.language.sampling import SamplingConfig
from labs.runtime.checkpoints import to_bytes
from labs.runtime.errors import InputError
from labs.runtime.reports import Checkpoint, Report

SMALL = {
    "layers": 1,
    "heads": 2,
    "width": 32,
    "context": 16,
    "batch_size": 8,
    "eval_interval": 5,
    "sample_interval": 10,
    "sample_length": 30,
    "warmup": 2,
    "device": "cpu",
    "precision": "float32",  # whatever this machine is faster for
}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return build_corpus("a test", "the quick brown fox jumps over the lazy dog.\n" * 40)


def run(corpus: Corpus, resume: Checkpoint | None = None, **options: object) -> list[Report]:
    return list(train_char_gpt(CharGPTTrainConfig(**{**SMALL, **options}), resume, corpus=corpus))


def through_a_file(checkpoint: Checkpoint) -> Checkpoint:
    return torch.load(io.BytesIO(to_bytes(checkpoint)), weights_only=True)


def test_one_batch_is_overfitted() -> None:
    """A text of one window has one batch: its loss must fall to nearly nothing."""
    text = "Nel mezzo del cammin di nostra vita mi ritrovai per una selva oscura"
    one = build_corpus("one batch", text)
    window = Corpus(one.name, one.vocabulary, one.train[:34], one.train[:34])
    reports = run(
        window,
        context=32,
        dropout=0.0,
        iterations=150,
        eval_interval=50,
        learning_rate=1e-2,
        weight_decay=0.0,
    )
    assert reports[-1].metrics["train/loss"] < 0.05
    assert reports[-1].metrics["val/loss"] < 0.05


def test_the_loss_begins_near_the_logarithm_of_the_vocabulary(corpus: Corpus) -> None:
    first = run(corpus, iterations=1, eval_interval=1, learning_rate=1e-9)[0].metrics
    expected = math.log(len(corpus.vocabulary))
    assert first["train/loss"] == pytest.approx(expected, abs=0.05)
    assert first["val/loss"] == pytest.approx(expected, abs=0.05)
    assert first["val/bits_per_character"] == pytest.approx(first["val/loss"] / math.log(2))


def test_resuming_equals_an_uninterrupted_training(corpus: Corpus) -> None:
    whole = run(corpus, iterations=20, dropout=0.3)
    interrupted = train_char_gpt(
        CharGPTTrainConfig(**{**SMALL, "iterations": 20, "dropout": 0.3}), corpus=corpus
    )
    next(interrupted)
    checkpoint = through_a_file(next(interrupted).checkpoint())
    torch.manual_seed(12345)  # what else happens in the process does not matter
    rest = run(corpus, checkpoint, iterations=20, dropout=0.3)
    assert [report.step for report in rest] == [15, 20]
    for resumed, straight in zip(rest, whole[2:], strict=True):
        ours, theirs = dict(resumed.metrics), dict(straight.metrics)
        assert ours.pop("time/tokens_per_second") > 0
        theirs.pop("time/tokens_per_second")
        assert ours == theirs
        assert resumed.texts == straight.texts
    ours, theirs = rest[-1].checkpoint(), whole[-1].checkpoint()
    for name, tensor in theirs["model"].items():
        assert torch.equal(tensor, ours["model"][name])
    assert to_bytes(ours["optimizer"]) == to_bytes(theirs["optimizer"])
    assert run(corpus, through_a_file(whole[-1].checkpoint()), iterations=20, dropout=0.3) == []


def test_a_longer_training_reports_at_the_steps_of_an_uninterrupted_one(corpus: Corpus) -> None:
    checkpoint = through_a_file(run(corpus, iterations=12)[-1].checkpoint())
    assert [report.step for report in run(corpus, checkpoint, iterations=23)] == [15, 20, 23]


def test_same_seed_same_numbers_and_other_seed_others(corpus: Corpus) -> None:
    first, again, other = (run(corpus, iterations=10, seed=seed) for seed in (1, 1, 2))
    assert first[-1].metrics["train/loss"] == again[-1].metrics["train/loss"]
    assert first[-1].texts == again[-1].texts
    assert first[-1].metrics["train/loss"] != other[-1].metrics["train/loss"]


def test_the_validation_loss_is_that_of_every_validation_window(corpus: Corpus) -> None:
    report = run(corpus, iterations=5)[-1]
    model, vocabulary = load_char_gpt(through_a_file(report.checkpoint()), "cpu")
    text = torch.from_numpy(corpus.validation.astype(np.int64))
    last = len(text) - 17
    starts = np.linspace(0, last, last // 16 + 1).astype(int)
    losses = [
        -model(text[s : s + 16][None])[0].log_softmax(-1)[range(16), text[s + 1 : s + 17]].mean()
        for s in starts
    ]
    mean = sum(losses).item() / len(losses)
    assert report.metrics["val/loss"] == pytest.approx(mean, rel=1e-5)
    assert vocabulary == corpus.vocabulary
    covered = {int(s) + i for s in starts for i in range(17)}
    assert len(covered) == len(text)


def test_samples_come_as_text_and_show_what_is_copied(corpus: Corpus) -> None:
    reports = run(corpus, iterations=25)
    assert [report.step for report in reports if report.texts] == [10, 20, 25]
    for report in reports:
        assert ("sample/known_word_share" in report.metrics) == bool(report.texts)
    assert "exist in the training text" in reports[-1].texts["sample"]


def test_a_checkpoint_writes_the_same_text_for_the_same_seed(corpus: Corpus) -> None:
    model, vocabulary = load_char_gpt(
        through_a_file(run(corpus, iterations=20)[-1].checkpoint()), "cpu"
    )
    texts = [
        "".join(write(model, vocabulary, 60, SamplingConfig(temperature=1), "the ", seed))
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0]) == 60
    assert set(texts[0]) <= set(vocabulary)
    with pytest.raises(InputError, match="'#' 'Q'"):
        next(write(model, vocabulary, 1, SamplingConfig(), "the #Q"))


def test_text_is_written_without_dropout_and_the_mode_stays(corpus: Corpus) -> None:
    checkpoint = through_a_file(run(corpus, iterations=5, dropout=0.5)[-1].checkpoint())
    model, vocabulary = load_char_gpt(checkpoint, "cpu")
    config = SamplingConfig(temperature=1)
    expected = list(write(model, vocabulary, 60, config, "the ", 4))
    assert not model.training
    model.train()
    assert list(write(model, vocabulary, 60, config, "the ", 4)) == expected
    assert model.training


def test_without_a_prompt_the_text_begins_after_a_line_break(corpus: Corpus) -> None:
    model, vocabulary = load_char_gpt(
        through_a_file(run(corpus, iterations=40, learning_rate=1e-2)[-1].checkpoint()), "cpu"
    )
    config = SamplingConfig(temperature=1)
    begun = [
        "".join(write(model, vocabulary, 40, config, prompt, 2)) for prompt in ("", "\n", "z", " ")
    ]
    assert begun[0] == begun[1]
    assert len(set(begun[1:])) == 3


def test_the_learning_rate_rises_and_falls_to_a_tenth() -> None:
    config = CharGPTTrainConfig(iterations=1000, warmup=100, learning_rate=1.0)
    rates = [learning_rate(config, iteration) for iteration in range(1000)]
    assert rates[0] == pytest.approx(1 / 101)
    assert rates[100] == max(rates) == 1.0
    assert rates[550] == pytest.approx(0.55)
    assert rates[999] == pytest.approx(0.1, abs=1e-4)
    assert rates[100:] == sorted(rates[100:], reverse=True)


def test_bfloat16_trains_to_about_the_same_loss(corpus: Corpus) -> None:
    exact, rough = (
        run(corpus, iterations=20, precision=precision, learning_rate=1e-2)[-1]
        for precision in ("float32", "bfloat16")
    )
    assert exact.metrics["val/loss"] < 2.9
    assert exact.metrics["val/loss"] != rough.metrics["val/loss"]
    assert rough.metrics["val/loss"] == pytest.approx(exact.metrics["val/loss"], abs=0.03)
    assert all(w.dtype == torch.float32 for w in rough.checkpoint()["model"].values())


def test_another_text_is_refused_on_resuming(corpus: Corpus) -> None:
    checkpoint = run(corpus, iterations=5)[-1].checkpoint()
    other = build_corpus("another", corpus.train_text[::-1] + corpus.validation_text)
    renamed = build_corpus(
        "other letters", (corpus.train_text + corpus.validation_text).replace("z", "ž")
    )
    assert np.array_equal(renamed.train, corpus.train)  # only the vocabulary tells them apart
    for text in (other, renamed):
        with pytest.raises(InputError, match="a different text"):
            run(text, checkpoint, iterations=10)


def test_a_text_shorter_than_the_context_is_refused(corpus: Corpus) -> None:
    with pytest.raises(InputError, match="`context` 179 or less"):
        check_length(corpus, 180)
    check_length(corpus, 179)
    longest = run(corpus, iterations=1, context=179)
    assert math.isfinite(longest[0].metrics["val/loss"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"iterations": 0}, "`iterations` 0"),
        ({"learning_rate": 0.0}, "`learning_rate`"),
        ({"learning_rate": float("nan")}, "`learning_rate`"),
        ({"weight_decay": -1.0}, "`weight_decay`"),
        ({"seed": -1}, "`seed`"),
        ({"width": 10, "heads": 4}, "`heads`"),
    ],
)
def test_impossible_training_is_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        CharGPTTrainConfig(**options)


@pytest.mark.slow
def test_it_learns_italian(shared_data) -> None:
    """From 4.3 nats to below 2.5 on the real Inferno in 150 iterations of a small model."""
    inferno = build_corpus("Inferno", read_text(shared_data / "dante" / "inferno.txt"))
    reports = run(
        inferno, iterations=150, width=64, context=64, batch_size=16, learning_rate=4e-3, warmup=20
    )
    assert reports[0].metrics["val/loss"] > 3
    assert reports[-1].metrics["val/loss"] < 2.5
