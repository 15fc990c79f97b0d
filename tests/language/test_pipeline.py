"""Rows come back whole and in order, whoever worked on them and whoever died."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import ray
from ray import cloudpickle

from labs.language import pipeline
from labs.language.pipeline import (
    Batches,
    Columns,
    Display,
    PoolOptions,
    concatenate,
    map_rows,
    resolve_pool,
)
from labs.runtime.errors import InputError

# The actors cannot import this file: its classes travel with their code.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

ONE_MACHINE = [{"CPU": 2.0, "GPU": 0.0}]


class Reverse:
    """Reverses texts; on the text ``kill`` it kills its own process once (or always)."""

    def __init__(self, mark: str | None = None) -> None:
        self._mark = mark

    def __call__(self, batch: Columns) -> Columns:
        if "kill" in batch["text"] and not (self._mark and Path(self._mark).exists()):
            if self._mark:
                Path(self._mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        texts = np.array([text[::-1] for text in batch["text"]], dtype=object)
        lengths = np.array([[len(text), len(batch["text"])] for text in texts], dtype=np.float32)
        return {"reversed": texts, "lengths": lengths}


class Refuses:
    def __init__(self, error: str) -> None:
        if error == "made":
            raise InputError("`encoder` nowhere has no weights")
        self._error = error

    def __call__(self, batch: Columns) -> Columns:
        if self._error == "short":
            return {"text": batch["text"][:-1]}
        raise KeyError("planted")


def texts(count: int) -> list[str]:
    """Of many lengths, with the ones that careless code loses."""
    special = ["", "null", "NA", "a\0b", "smile \U0001f600", "tab\tline\n"]
    return [
        special[i] if i < len(special) else f"{i} " + "x" * (i * 37 % 101) for i in range(count)
    ]


def apply(rows: list[str], batch_size: int, **options: object) -> Columns:
    arguments = {"mark": options.pop("mark", None)}
    cost = np.array([len(text) for text in rows], dtype=float)
    return concatenate(
        map_rows(
            Reverse,
            arguments,
            pa.table({"text": pa.array(rows, pa.string())}),
            Batches(batch_size, cost),
            display=Display(progress=False),
            **options,
        )
    )


def wait_for_free_cores() -> None:
    """What comes after a run, for instance a sweep, would otherwise wait for them for ever."""
    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU") != 2:
        assert time.monotonic() < deadline, "actors live on"
        time.sleep(0.1)


@pytest.mark.parametrize("batch_size", [1, 7, 100, 1000])
def test_rows_keep_their_order_in_process(batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "WINDOW", 40)
    rows = texts(150)
    results = apply(rows, batch_size, in_process=True)
    assert results["reversed"].tolist() == [text[::-1] for text in rows]
    assert results["lengths"][:, 0].tolist() == [len(text) for text in rows]
    assert results["lengths"][:, 1].max() == min(batch_size, 40)


def test_windows_come_back_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "WINDOW", 40)
    table = pa.table({"text": texts(100)})
    runs = map_rows(
        Reverse, {}, table, Batches(8), in_process=True, display=Display(progress=False)
    )
    assert [len(run["reversed"]) for run in runs] == [40, 40, 20]


def test_rows_of_a_batch_cost_about_the_same() -> None:
    rows = ["x" * n for n in (5, 100, 6, 99, 7, 98)]
    lengths = apply(rows, 3, in_process=True)
    assert lengths["reversed"].tolist() == rows
    batches, _ = Batches(3, np.array([len(row) for row in rows])).cut(len(rows))
    assert [sorted(batch.tolist()) for batch in batches] == [[1, 3, 5], [0, 2, 4]]


def test_no_rows_give_no_results() -> None:
    assert apply([], 8, in_process=True) == {}


@pytest.mark.ray
@pytest.mark.parametrize(("actors", "batch_size"), [(1, 16), (2, 7)])
def test_actors_give_the_same_in_the_same_order(
    private_ray: None, actors: int, batch_size: int
) -> None:
    rows = texts(120)
    by_actors = apply(rows, batch_size, pool=PoolOptions(num_actors=actors))
    here = apply(rows, batch_size, in_process=True)
    assert by_actors["reversed"].tolist() == here["reversed"].tolist()
    np.testing.assert_array_equal(by_actors["lengths"], here["lengths"])
    wait_for_free_cores()


@pytest.mark.slow
@pytest.mark.ray
def test_a_killed_actor_loses_nothing_and_repeats_nothing(
    private_ray: None, tmp_path: Path
) -> None:
    rows = [*texts(60), "kill", *texts(40)]
    mark = tmp_path / "killed"
    results = apply(rows, 5, pool=PoolOptions(num_actors=2), mark=str(mark))
    assert mark.exists()
    assert results["reversed"].tolist() == [text[::-1] for text in rows]
    wait_for_free_cores()


@pytest.mark.ray
@pytest.mark.slow
def test_a_batch_that_kills_every_actor_ends_the_run(private_ray: None) -> None:
    with pytest.raises(RuntimeError, match="died four times on the same rows"):
        apply([*texts(10), "kill"], 5, pool=PoolOptions(num_actors=1))
    wait_for_free_cores()


@pytest.mark.slow
@pytest.mark.ray
def test_failures_come_as_what_they_are(private_ray: None) -> None:
    table = pa.table({"text": texts(10)})
    for in_process in (True, False):
        options = {"in_process": in_process, "display": Display(progress=False)}
        options |= {"batches": Batches(5), "pool": PoolOptions(num_actors=1)}
        begun = time.monotonic()
        with pytest.raises(InputError, match="`encoder` nowhere has no weights"):
            concatenate(map_rows(Refuses, {"error": "made"}, table, **options))
        with pytest.raises(RuntimeError, match="KeyError: 'planted'"):
            concatenate(map_rows(Refuses, {"error": "called"}, table, **options))
        with pytest.raises(RuntimeError, match="one result for each of 5 rows"):
            concatenate(map_rows(Refuses, {"error": "short"}, table, **options))
        assert time.monotonic() - begun < 60
    wait_for_free_cores()


def test_a_pool_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="`gpus_per_actor`.*room for 0.*2 CPU and 0 GPU"):
        resolve_pool(PoolOptions(gpus_per_actor=1), ONE_MACHINE)
    with pytest.raises(InputError, match="`num_actors` 3 of 1 CPU each.*room for 2"):
        resolve_pool(PoolOptions(num_actors=3), ONE_MACHINE)
    with pytest.raises(InputError, match="`num_actors` 0"):
        PoolOptions(num_actors=0)
    with pytest.raises(InputError, match="`gpus_per_actor` 1.5"):
        PoolOptions(gpus_per_actor=1.5)


def test_the_pool_fills_the_machines_but_starts_no_idle_actor() -> None:
    assert resolve_pool(PoolOptions(), ONE_MACHINE, num_batches=10).num_actors == 2
    assert resolve_pool(PoolOptions(), ONE_MACHINE, num_batches=1).num_actors == 1
    gpus = [{"CPU": 16.0, "GPU": 2.0}, {"CPU": 16.0, "GPU": 1.0}]
    pool = resolve_pool(PoolOptions(), gpus, num_batches=10)
    assert (pool.num_actors, pool.actor.gpus) == (3, 1.0)
    assert resolve_pool(PoolOptions(gpus_per_actor=0.5), gpus, num_batches=10).num_actors == 6
