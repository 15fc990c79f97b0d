"""Ray's local mode: every part in this process, where a debugger sees it; and without Ray.

The sweeps' scripts have tests of their own for it, in processes of their own.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from scripts import run_here
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_gpt2 import save_tiny_gpt2

from labs.language.embeddings.embedder import EmbeddingOptions
from labs.language.embeddings.encoders import PACKAGED, resolve_encoder
from labs.language.embeddings.vectors import embed, plan
from labs.language.pipeline import Batches, Columns, Display, concatenate, map_rows
from labs.rl.agents.policies import PolicySpec
from labs.rl.rollouts.collector import CollectorSpec
from labs.rl.rollouts.workers import InProcess, make_rollouts

pytestmark = pytest.mark.usefixtures("local_ray")

SPEC = CollectorSpec("CartPole-v1", 2, 1, 5, PolicySpec((4,), 2, (), "tanh", "categorical"), seed=0)


class WhereAmI:
    def __call__(self, batch: Columns) -> Columns:
        here = [os.getpid(), torch.get_num_threads()]
        return {"text": batch["text"], "here": np.array([here] * len(batch["text"]))}


def test_rows_are_computed_here_and_threads_are_restored() -> None:
    texts = [str(n) for n in range(20)]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    runs = map_rows(
        WhereAmI, {}, pa.table({"text": texts}), Batches(6), display=Display(progress=False)
    )
    found = concatenate(runs)
    assert found["text"].tolist() == texts
    assert found["here"].tolist() == [[os.getpid(), 1]] * 20
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_the_vectors_are_the_same() -> None:
    encoder = resolve_encoder(PACKAGED)[0]
    texts = ["Oil prices climb", "A new record in the semi-final", "", "Oil"] * 3
    options = EmbeddingOptions(cache_dir=None, chunk_size=5)
    nodes = [{"CPU": 2.0, "GPU": 0.0}]
    planned = plan(encoder, options, nodes)
    (local,) = embed([texts], planned, progress=False)
    (here,) = embed([texts], planned, in_process=True, progress=False)
    np.testing.assert_array_equal(local.vectors, here.vectors)
    np.testing.assert_allclose(local.vectors[:4], local.vectors[4:8], atol=1e-5)


def test_rollout_workers_are_in_the_driver() -> None:
    rollouts = make_rollouts(SPEC, 3)
    assert isinstance(rollouts, InProcess) and len(rollouts.get_state()) == 3


def test_generated_texts_go_to_files_and_to_tensorboard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_tiny_gpt2(tmp_path / "gpt2")
    (tmp_path / "prompts.txt").write_text("ciao\nNA\n")
    options = [
        "--model",
        model,
        "--prompt-file",
        tmp_path / "prompts.txt",
        "--sequences",
        "2",
        "--new-tokens",
        "5",
    ]
    options += ["--run-root", tmp_path, "--run-name", "first"]
    assert run_here("generate_text", "Nel mezzo", *options) == 0
    run = tmp_path / "generate_text" / "first"
    table = pd.read_csv(run / "texts.csv", keep_default_na=False)
    assert list(table["prompt"]) == ["Nel mezzo"] * 2 + ["ciao"] * 2 + ["NA"] * 2
    assert list(table["sequence"]) == [0, 1] * 3
    assert table["text"].nunique() == 6
    out = capsys.readouterr().out
    assert all(
        prompt + text in out for prompt, text in zip(table["prompt"], table["text"], strict=True)
    )

    events = EventAccumulator(str(run / "tensorboard" / "summary"))
    events.Reload()
    shown = events.Tensors("generated/text_summary")
    assert [event.step for event in shown] == [0, 1, 2]
    assert table["text"][0] in shown[0].tensor_proto.string_val[0].decode()


def test_the_tokens_of_the_inferno_are_counted(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--tokenizer", shared_data / "tokenizers" / "gpt2"]
    options += ["--text", shared_data / "dante" / "inferno.txt"]
    options += ["--run-root", tmp_path, "--run-name", "first"]
    assert run_here("count_tokens", *options) == 0
    assert "82,990 tokens, 0.442 tokens per character (44.2%)" in capsys.readouterr().out
    run = tmp_path / "count_tokens" / "first"
    table = pd.read_csv(run / "tokens.csv")
    assert table["characters"][0] == 187_621 and table["tokens"][0] == 82_990
    assert len(pd.read_csv(run / "frequent_tokens.csv")) > 5


def test_rollout_workers_are_refused_without_ray(without_ray: None) -> None:
    with pytest.raises(RuntimeError, match="workers need Ray"):
        make_rollouts(SPEC, 1)
    assert isinstance(make_rollouts(SPEC, 0), InProcess)
