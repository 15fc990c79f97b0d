"""Generation: padding, batches and actors change nothing; the draws follow the options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_gpt2 import save_tiny_gpt2

from labs.language.generation.pretrained import (
    GenerationConfig,
    TextGenerator,
    _sampling,
    generate_texts,
    prompt_lengths,
)
from labs.language.hub import load_tokenizer
from labs.language.pipeline import PoolOptions
from labs.runtime.errors import InputError

PROMPTS = [
    "Nel mezzo del cammin di nostra vita mi ritrovai per una selva oscura",
    "ciao",
    "",
    "In the middle of the journey of our life",
    "«Lasciate ogne speranza",
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_gpt2(tmp_path_factory.mktemp("gpt2"))


def texts(
    directory: Path,
    prompts: list[str] = PROMPTS,
    pool: PoolOptions | None = None,
    **options: object,
) -> list[list[str]]:
    config = GenerationConfig(**{"new_tokens": 12, "precision": "float32", **options})
    lengths = prompt_lengths(
        prompts, directory, load_tokenizer(directory, "model"), config.new_tokens
    )
    results = generate_texts(
        prompts,
        directory,
        config,
        lengths=lengths,
        pool=pool,
        in_process=pool is None,
        progress=False,
    )
    return list(results)


def test_greedy_is_the_most_likely_token_one_at_a_time(directory: Path) -> None:
    """Against a loop without a cache, a batch or padding."""
    config = GenerationConfig(strategy="greedy", new_tokens=12, precision="float32")
    generator = TextGenerator(str(directory), config)
    expected = []
    for prompt in PROMPTS:
        ids = generator.tokenizer(prompt or "<|endoftext|>")["input_ids"]
        new: list[int] = []
        for _ in range(12):
            with torch.no_grad():
                logits = generator.model(torch.tensor([ids + new])).logits[0, -1]
            new.append(int(logits.argmax()))
            if new[-1] == generator.tokenizer.eos_token_id:
                break
        expected.append([generator.tokenizer.decode(new, skip_special_tokens=True)])
    assert len({text for (text,) in expected}) == len(PROMPTS)
    assert texts(directory, strategy="greedy", batch_size=5) == expected
    assert texts(directory, strategy="greedy", batch_size=1) == expected
    assert texts(directory, temperature=0.0, batch_size=2) == expected


def test_a_text_ends_where_the_model_ends_it(directory: Path) -> None:
    generator = TextGenerator(str(directory), GenerationConfig(strategy="greedy", new_tokens=12))
    batch = {"prompt": np.array([PROMPTS[0]], dtype=object), "number": np.arange(1)}
    (whole,) = generator(batch)["text_0"]
    tokens = generator.tokenizer(PROMPTS[0] + whole)["input_ids"][-12:]
    end = next(i for i in range(2, 12) if tokens[i] not in tokens[:i])
    generator.model.generation_config.eos_token_id = tokens[end]
    (cut,) = generator(batch)["text_0"]
    assert cut == generator.tokenizer.decode(tokens[: end + 1])


def test_the_token_that_ends_a_text_is_no_part_of_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor is what fills up a text that ends before the others of its batch."""
    generator = TextGenerator(str(directory), GenerationConfig(strategy="greedy", new_tokens=4))
    end, (one, two) = generator.tokenizer.eos_token_id, generator.tokenizer("xy")["input_ids"]
    ends = torch.tensor([[one, end, end, end], [two, one, two, end]])

    def generate(tokens: torch.Tensor, **_: object) -> torch.Tensor:
        return torch.cat([tokens, ends], dim=1)

    monkeypatch.setattr(generator.model, "generate", generate)
    batch = {"prompt": np.array(["a longer prompt", "ciao"], dtype=object), "number": np.arange(2)}
    assert generator(batch)["text_0"].tolist() == ["x", "yxy"]


@pytest.mark.parametrize(
    "options", [{}, {"top_k": 50, "top_p": 0.9}, {"strategy": "beam", "beams": 3}]
)
def test_the_texts_do_not_depend_on_the_batches(directory: Path, options: dict) -> None:
    whole = texts(directory, sequences=3, batch_size=5, **options)
    assert whole == texts(directory, sequences=3, batch_size=1, **options)
    assert whole == texts(directory, sequences=3, batch_size=2, **options)
    assert all(len(set(three)) == 3 for three in whole)


def test_the_seed_decides(directory: Path) -> None:
    assert texts(directory, seed=1) == texts(directory, seed=1)
    assert texts(directory, seed=1) != texts(directory, seed=2)
    twice = texts(directory, ["ciao", "ciao"])
    assert twice[0] != twice[1]  # each prompt has random numbers of its own


def test_beams_find_a_more_likely_text_than_greedy(directory: Path) -> None:
    generator = TextGenerator(str(directory), GenerationConfig())

    def log_probability(prompt: str, text: str) -> float:
        start = generator.tokenizer(prompt, return_tensors="pt")["input_ids"]
        whole = generator.tokenizer(prompt + text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            scores = generator.model(whole).logits[0, :-1].log_softmax(-1)
        picked = scores.gather(1, whole[0, 1:, None])[start.shape[1] - 1 :]
        return picked.sum().item()

    prompt = PROMPTS[0]
    ((greedy,),) = texts(directory, [prompt], strategy="greedy", new_tokens=6)
    ((beam,),) = texts(directory, [prompt], strategy="beam", beams=20, new_tokens=6)
    assert log_probability(prompt, beam) >= log_probability(prompt, greedy)
    assert beam != greedy


def test_draws_follow_the_distribution() -> None:
    """The processors and an argmax, 20,000 times, against the probabilities themselves."""
    probabilities = torch.tensor([0.15, 0.5, 0.1, 0.25])
    stream = torch.Generator().manual_seed(0)

    def frequencies(**options: float) -> torch.Tensor:
        config = GenerationConfig(**{"temperature": 1.0, **options})
        scores = probabilities.log().expand(20_000, -1)
        for processor in _sampling(config, [stream] * 20_000):
            scores = processor(None, scores)
        return torch.bincount(scores.argmax(-1), minlength=4) / 20_000

    torch.testing.assert_close(frequencies(), probabilities, atol=0.012, rtol=0)
    squares = probabilities**2 / (probabilities**2).sum()
    torch.testing.assert_close(frequencies(temperature=0.5), squares, atol=0.012, rtol=0)
    two = torch.tensor([0, 2 / 3, 0, 1 / 3])
    torch.testing.assert_close(frequencies(top_k=2), two, atol=0.012, rtol=0)
    torch.testing.assert_close(frequencies(top_p=0.7), two, atol=0.012, rtol=0)


@pytest.mark.slow
def test_actors_write_the_same_as_this_process(directory: Path, private_ray: None) -> None:
    here = texts(directory, sequences=2, batch_size=2)
    there = texts(directory, pool=PoolOptions(num_actors=2), sequences=2, batch_size=2)
    assert here == there
    assert len(here) == len(PROMPTS)


def test_prompts_longer_than_the_model_are_refused(directory: Path) -> None:
    with pytest.raises(InputError, match=r"prompt 2 has 100 tokens.*96"):
        texts(directory, ["ciao", "x" * 100])
    with pytest.raises(InputError, match="prompt 1 has 85 tokens, and with `new_tokens` 12"):
        texts(directory, ["x" * 85])
    lengths = prompt_lengths(["", "x" * 84], directory, load_tokenizer(directory, "model"), 12)
    assert np.array_equal(lengths, [1, 84])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"top_p": 0.0}, r"\(0, 1\]"),
        ({"temperature": -0.5}, "0, which is greedy"),
        ({"strategy": "greedy", "sequences": 2}, "`sequences` 2"),
        ({"temperature": 0.0, "sequences": 2}, "`sequences` 2"),
        ({"strategy": "beam", "beams": 2, "sequences": 3}, "`beams` 3"),
        ({"new_tokens": 0}, "`new_tokens` 0"),
    ],
)
def test_impossible_options_are_refused(options: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        GenerationConfig(**options)
