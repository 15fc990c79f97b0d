"""Apply a model to many rows: a pool of Ray Data actors, or this process; one function for both.

A worker is any class whose instances map a batch of rows to a batch of results, such as
:class:`labs.language.embeddings.embedder.Embedder`. It knows nothing of Ray. ``map_rows`` cuts the
rows into batches, passes each to a worker and yields the results in the order of the rows, whatever
the number of actors, the order in which they finish, or an actor's death on the way.

This is the only file of ``labs.language`` that imports ray. Ray Data cannot run under
``ray.init(local_mode=True)`` (it aborts the process in C++); ``in_process=True`` applies the same
worker to the same batches here.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import pyarrow as pa
import torch
from ray import cloudpickle
from ray.exceptions import RayError

from labs.language.progress import Progress
from labs.runtime.errors import InputError
from labs.runtime.machine.resources import Node, Resources, available_nodes, concurrent_trials
from labs.runtime.machine.session import in_local_mode
from labs.runtime.options import RuntimeOptions

Columns = dict[str, np.ndarray]
"""Rows as one array per column, all of the same first dimension; strings are object arrays."""

WINDOW = 16_384
"""Rows that are sorted by cost together and given back together: memory does not grow with the
number of rows beyond the rows themselves."""


class Worker(Protocol):
    """Maps a batch of rows to as many results, in the same order."""

    def __call__(self, batch: Columns) -> Columns:
        """The results of one batch, with the same first dimension."""
        ...


@dataclass(frozen=True)
class PoolOptions:
    """How many copies of the model work at once, and on what."""

    num_actors: int | None = None
    """Actors, each with its own model. Default: one per GPU, or one per cpus-per-actor cores on
    machines without a GPU, and never more than there are batches."""

    cpus_per_actor: int = 1
    """Cores and torch threads of each actor. On a CPU, actors of one core each are the fastest."""

    gpus_per_actor: float | None = None
    """GPUs of each actor; a fraction shares one (0.5: two actors on a GPU). Default: 1 where the
    cluster has a GPU, else 0."""

    def __post_init__(self) -> None:
        if self.num_actors is not None and self.num_actors < 1:
            raise InputError(f"`num_actors` {self.num_actors} must be at least 1, for instance 2")
        if self.cpus_per_actor < 1:
            raise InputError(f"`cpus_per_actor` {self.cpus_per_actor} must be at least 1")
        gpus = self.gpus_per_actor
        if gpus is not None and (gpus < 0 or (gpus > 1 and gpus != int(gpus))):
            raise InputError(
                f"`gpus_per_actor` {gpus} must be 0, a fraction of one GPU such as 0.5,"
                " or a whole number"
            )


@dataclass(frozen=True)
class Batches:
    """How rows are cut into batches."""

    size: int
    """Rows that a worker gets at once, and Ray's unit of work: choose what keeps an actor busy for
    about a second. A worker may cut it further."""

    cost: np.ndarray | None = None
    """(rows,) What a row takes, in any unit, for instance its length. Rows of about the same cost
    share a batch, the most expensive first, and the time left is estimated from it."""

    def cut(self, count: int) -> tuple[list[np.ndarray], np.ndarray]:
        """The row numbers of each batch, most expensive first within each window; the costs."""
        if self.size < 1:
            raise InputError(f"the batch size is {self.size} and must be at least 1")
        costs = np.ones(count) if self.cost is None else np.asarray(self.cost, dtype=np.float64)
        if costs.shape != (count,):
            raise ValueError(f"cost has shape {costs.shape} and there are {count} rows")
        batches = []
        for start in range(0, count, WINDOW):
            order = start + np.argsort(-costs[start : start + WINDOW], kind="stable")
            batches += [order[i : i + self.size] for i in range(0, len(order), self.size)]
        return batches, costs


@dataclass(frozen=True)
class Display:
    """What is shown while rows are worked on."""

    unit: str = "rows"
    """What a row is called in the progress line, for instance "texts"."""

    progress: bool = True
    """Show rows per second and time left."""

    verbose: bool = False
    """Show Ray Data's own messages too."""


@dataclass(frozen=True)
class Pool:
    """A pool that fits the machines: ``PoolOptions`` with every default resolved."""

    num_actors: int
    actor: Resources


def resolve_pool(options: PoolOptions, nodes: Sequence[Node], num_batches: int = 1) -> Pool:
    """Fit a pool to the machines (``labs.runtime.machine.resources.available_nodes``); call it early.

    Raises:
        InputError: the machines do not have that many cores or GPUs. Ray itself would wait for
            them, silently and forever.
    """
    gpus = options.gpus_per_actor
    if gpus is None:
        gpus = 1.0 if any(node["GPU"] >= 1 for node in nodes) else 0.0
    actor = Resources(cpus=options.cpus_per_actor, gpus=gpus)
    room = concurrent_trials(actor, nodes)
    if room < (options.num_actors or 1):
        have = "; ".join(f"{node['CPU']:g} CPU and {node['GPU']:g} GPU" for node in nodes)
        raise InputError(
            f"`num_actors` {options.num_actors or 1} of {actor} each"
            f" (`cpus_per_actor`, `gpus_per_actor`) do not fit: there is room for {room}"
            f" ({have or 'no machine'})"
        )
    return Pool(options.num_actors or max(1, min(room, num_batches)), actor)


def map_rows(
    worker: Callable[..., Worker],
    arguments: Mapping[str, Any],
    rows: pa.Table,
    batches: Batches,
    *,
    pool: PoolOptions | None = None,
    in_process: bool | None = None,
    display: Display | None = None,
) -> Iterator[Columns]:
    """Apply a worker to all rows; yield its results in the order of the rows.

    Args:
        worker: a class (picklable by name); each actor makes one instance, ``worker(**arguments)``.
        arguments: what all instances are made with; small, since it is sent to every actor.
        rows: what to work on. A worker sees them as ``Columns``.
        batches: how the rows are cut.
        pool: the actors. In process it only gives the number of torch threads.
        in_process: apply the worker here instead of in actors. By default only in local mode.
        display: what is shown meanwhile.

    Yields:
        Runs of consecutive results, all columns that the worker returned.

    A connection to Ray must be open (``labs.runtime.machine.session.connect``), unless ``in_process``.

    Raises:
        InputError: bad options, or a worker raised it.
        RuntimeError: a worker raised anything else (its traceback is in the message), or actors
            died four times on the same batch.
    """
    options, display = pool or PoolOptions(), display or Display()
    parts, costs = batches.cut(rows.num_rows)
    pickled = cloudpickle.dumps((worker, dict(arguments)))
    if in_local_mode() if in_process is None else in_process:
        results = _in_process(pickled, rows, parts, options.cpus_per_actor)
    else:
        fitted = resolve_pool(options, available_nodes(RuntimeOptions()), len(parts))
        results = _by_actors(pickled, rows, parts, fitted, display.verbose)
    return _in_order(
        results, costs, Progress(display.unit, rows.num_rows, enabled=display.progress)
    )


def concatenate(runs: Iterable[Columns]) -> Columns:
    """All of ``map_rows``' results at once; no rows give no columns."""
    collected = list(runs)
    names = collected[0] if collected else {}
    return {name: np.concatenate([run[name] for run in collected]) for name in names}


class _Actor:
    """A worker that returns its results' row numbers too, and a failure as a result.

    A failure is returned, not raised: Ray Data 2.54 would restart the actor several times, take half
    a minute for it, and wrap and print the error every time.
    """

    def __init__(self, pickled_worker: bytes, threads: int) -> None:
        torch.set_num_threads(threads)
        self._failure: Exception | None = None
        try:
            worker, arguments = cloudpickle.loads(pickled_worker)
            self._worker: Worker = worker(**arguments)
        except Exception as error:
            self._failure = error

    def __call__(self, batch: pa.Table) -> Columns:
        columns = {name: batch[name].to_numpy(zero_copy_only=False) for name in batch.column_names}
        rows = columns.pop("__row__")
        try:
            if self._failure is not None:
                raise self._failure
            results = self._worker(columns)
            if any(len(result) != len(rows) for result in results.values()):
                raise ValueError(f"the worker did not give one result for each of {len(rows)} rows")
        except InputError as error:
            return _failure(str(error), bad_input=True)
        except Exception as error:
            return _failure("".join(traceback.format_exception(error)), bad_input=False)
        return {"__row__": rows, **results}


def _failure(message: str, bad_input: bool) -> Columns:
    return {
        "__failure__": np.array([message], dtype=object),
        "__bad_input__": np.array([bad_input]),
    }


def _table(rows: pa.Table, batch: np.ndarray) -> pa.Table:
    """The rows of one batch, with their numbers."""
    return rows.take(batch).combine_chunks().append_column("__row__", pa.array(batch))


def _in_process(
    pickled_worker: bytes,
    rows: pa.Table,
    batches: list[np.ndarray],
    threads: int,
) -> Generator[Columns]:
    before = torch.get_num_threads()
    try:
        actor = _Actor(pickled_worker, threads)
        for batch in batches:
            yield actor(_table(rows, batch))
    finally:
        torch.set_num_threads(before)


def _by_actors(
    pickled_worker: bytes,
    rows: pa.Table,
    batches: list[np.ndarray],
    pool: Pool,
    verbose: bool,
) -> Generator[Columns]:
    """Results as the actors finish them.

    An actor that dies is restarted and its batch goes to another; a batch that has killed four
    actors ends the run, where Ray Data's default (2.54) would retry it forever.
    """
    import ray.data  # takes a second to import, and local mode does not need it

    if not batches:
        return
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = verbose
    logging.getLogger("ray.data").setLevel(logging.INFO if verbose else logging.CRITICAL)
    dataset = ray.data.from_arrow([_table(rows, batch) for batch in batches]).map_batches(
        _Actor,
        fn_constructor_args=(pickled_worker, int(pool.actor.cpus)),
        batch_size=None,  # a block is a batch
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=pool.num_actors),
        num_cpus=pool.actor.cpus,
        num_gpus=pool.actor.gpus,
        max_restarts=-1,
        max_task_retries=3,
    )
    failure = None
    try:
        for results in dataset.iter_batches(batch_size=None, batch_format="numpy"):
            yield cast(Columns, results)
    except RayError as error:
        failure = f"{type(error).__name__}: {error}"
        traceback.clear_frames(error.__traceback__)  # they hold the actors, too
    finally:
        # Ray Data's objects (2.54) refer to one another in circles: until those are collected the
        # actors stay alive, and a sweep that follows would wait for their cores.
        del dataset
        gc.collect()
    if failure is not None:
        raise RuntimeError(
            "actors died four times on the same rows, most likely because memory ran out; fewer"
            f" actors or smaller batches may help ({failure})"
        )


def _in_order(
    results: Generator[Columns], costs: np.ndarray, progress: Progress
) -> Iterator[Columns]:
    """Keep results until all before them have arrived; yield whole windows."""
    total, done = costs.sum() or 1.0, 0.0
    seen = np.zeros(len(costs), dtype=bool)
    left = [min(WINDOW, len(costs) - start) for start in range(0, len(costs), WINDOW)]
    held: list[list[Columns]] = [[] for _ in left]
    window = 0
    with contextlib.closing(results), progress:
        for result in results:
            _raise_failure(result)
            numbers = result["__row__"]
            if seen[numbers].any():
                raise RuntimeError("a row came back twice")
            seen[numbers] = True
            done += costs[numbers].sum()
            progress.advance(len(numbers), done / total)
            home = int(numbers[0]) // WINDOW
            held[home].append(result)
            left[home] -= len(numbers)
            while window < len(left) and left[window] == 0:
                yield _sorted(held[window])
                held[window] = []
                window += 1
    if not seen.all():
        raise RuntimeError(f"{int((~seen).sum())} of {len(seen)} rows did not come back")


def _raise_failure(result: Columns) -> None:
    if "__failure__" not in result:
        return
    message = str(result["__failure__"][0])
    if result["__bad_input__"][0]:
        raise InputError(message)
    raise RuntimeError(f"a worker failed:\n{message}")


def _sorted(results: list[Columns]) -> Columns:
    joined = concatenate(results)
    order = np.argsort(joined.pop("__row__"))
    return {name: column[order] for name, column in joined.items()}
