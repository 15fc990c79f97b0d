"""Ray's local mode: the same worker, in this process."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa
import torch

from labs.language.embeddings import EmbeddingOptions, embed
from labs.language.encoders import PACKAGED, resolve_encoder
from labs.language.pipeline import Columns, concatenate, map_rows


class WhereAmI:
    def __call__(self, batch: Columns) -> Columns:
        here = [os.getpid(), torch.get_num_threads()]
        return {"text": batch["text"], "here": np.array([here] * len(batch["text"]))}


def test_rows_are_worked_on_here_and_threads_are_given_back(local_ray: None) -> None:
    texts = [str(n) for n in range(20)]
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    runs = map_rows(WhereAmI, {}, pa.table({"text": texts}), batch_size=6, progress=False)
    found = concatenate(runs)
    assert found["text"].tolist() == texts
    assert found["here"].tolist() == [[os.getpid(), 1]] * 20
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_local_mode_gives_the_same_vectors(local_ray: None) -> None:
    encoder = resolve_encoder(PACKAGED)[0]
    texts = ["Oil prices climb", "A new record in the semi-final", "", "Oil"] * 3
    options = EmbeddingOptions(cache_dir=None, chunk_size=5)
    nodes = [{"CPU": 2.0, "GPU": 0.0}]
    local = embed(texts, encoder, options, nodes, progress=False)
    here = embed(texts, encoder, options, nodes, in_process=True, progress=False)
    np.testing.assert_array_equal(local.vectors, here.vectors)
    np.testing.assert_allclose(local.vectors[:4], local.vectors[4:8], atol=1e-5)
