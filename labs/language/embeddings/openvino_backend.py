"""Forward passes in OpenVINO, which is faster than PyTorch on a CPU.

OpenVINO is optional (``pip install 'labs[openvino]'``). An encoder is converted once, checked against
PyTorch, and kept beside the vectors under a name that holds its weights and the versions of everything
that takes part.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import uuid
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from labs.language.embeddings.encoders import Encoder, load_model
from labs.language.embeddings.forward import (
    Pass,
    TorchForward,
    least_cosine,
    pool_tokens,
    random_passes,
)
from labs.language.embeddings.sentence_form import Pooling
from labs.language.hub import first_line
from labs.runtime.errors import InputError

FORM = 1
"""Of the converted graph (inputs, outputs); a new number converts everything again."""
LEAST_COSINE = 0.9999
"""Between the vectors of a conversion in float32 and PyTorch's."""


def installed() -> bool:
    """Whether OpenVINO is there; it is not imported, which takes a second."""
    return importlib.util.find_spec("openvino") is not None


def conversion_path(directory: Path, encoder: Encoder) -> Path:
    """Where the conversion of an encoder belongs, by its weights, pooling, and the versions used."""
    packages = ("openvino", "torch", "transformers")
    versions = {name: importlib.metadata.version(name) for name in packages}
    key = {
        "form": FORM,
        "weights": encoder.weights_hash,
        "pooling": encoder.form.pooling,
        **versions,
    }
    content = json.dumps(key, sort_keys=True)
    return directory / f"openvino-{hashlib.sha256(content.encode()).hexdigest()[:24]}.xml"


def ensure_converted(path: Path, encoder: Encoder) -> bool:
    """Convert the encoder to ``path`` unless it is there; whether it was converted now.

    However many processes ask at once, one converts. A conversion is there as a whole or not at all.

    Raises:
        InputError: the encoder cannot be loaded or converted, the conversion gives other vectors, or
            the directory cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if path.is_file() and path.with_suffix(".bin").is_file():
                return False
            _convert(path, encoder)
    except OSError as error:
        raise InputError(
            f"`cache_dir` {path.parent} cannot be written"
            f" ({error.strerror or str(error).strip()}): free some space, or use another directory"
        ) from None
    return True


def _convert(path: Path, encoder: Encoder) -> None:
    model, pooling = load_model(encoder, torch.float32), encoder.form.pooling
    try:
        import openvino

        graph = _Graph(model, pooling).eval()
        example = random_passes(model)[0]
        inputs = {"ids": torch.from_numpy(example.ids), "mask": torch.from_numpy(example.mask)}
        with warnings.catch_warnings():  # that a trace may not hold for other sizes: _check
            warnings.simplefilter("ignore")
            converted = openvino.convert_model(graph, example_input=inputs)
        _check(converted, model, pooling)
        temporary = path.with_name(f".{uuid.uuid4().hex}.xml")
        try:
            openvino.save_model(converted, temporary, compress_to_fp16=False)
            os.replace(temporary.with_suffix(".bin"), path.with_suffix(".bin"))
            os.replace(temporary, path)  # last: who sees it has the whole
        finally:
            for file in (temporary, temporary.with_suffix(".bin")):
                file.unlink(missing_ok=True)
    except (OSError, InputError):
        raise
    except Exception as error:  # what a converter raises for a model that it does not know
        raise InputError(
            f"`encoder` {encoder.name} cannot be converted for OpenVINO: {first_line(error)}"
        ) from None


class _Graph(torch.nn.Module):
    """Token ids and mask to pooled vectors: what comes out is small."""

    def __init__(self, model: Any, pooling: Pooling) -> None:
        super().__init__()
        self.model = model
        self.pooling: Pooling = pooling

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Int64 ``[n, tokens]`` and bool ``[n, tokens]`` to float32 ``[n, width]``."""
        hidden = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return pool_tokens(hidden, mask, self.pooling)


def _check(converted: Any, model: Any, pooling: Pooling) -> None:
    """Refuse a conversion that took what is only true of its example (sizes, say) for always true."""
    passes = random_passes(model)
    expected = TorchForward(model, pooling, torch.device("cpu"))(passes)
    found = OpenVINOForward(converted, "float32", torch.get_num_threads())(passes)
    cosine = least_cosine(found, expected)
    if not cosine >= LEAST_COSINE:
        raise ValueError(f"its vectors are not PyTorch's (cosine {cosine:.4f})")


class OpenVINOForward:
    """As many passes at once as there are threads, each on one thread.

    Args:
        model: a converted model, or the path of one.
        precision: ``bfloat16`` is a hint, which OpenVINO follows where the processor has instructions
            for it; ``float32``.
        threads: cores to use.

    Raises:
        InputError: OpenVINO is not installed here.
    """

    def __init__(self, model: Any, precision: str, threads: int) -> None:
        try:
            import openvino
        except ImportError as error:
            raise InputError(
                f"`backend` openvino: it cannot be imported on this machine ({first_line(error)}):"
                " install labs[openvino] on every machine, or use `backend` torch"
            ) from None
        self._compiled = openvino.Core().compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
                "INFERENCE_NUM_THREADS": threads,
                "NUM_STREAMS": threads,
                # Pinned, the streams of two processes would sit on the same cores.
                "ENABLE_CPU_PINNING": False,
            },
        )
        self._queue = openvino.AsyncInferQueue(self._compiled, threads)
        self._queue.set_callback(self._keep)

    def __call__(self, passes: Sequence[Pass]) -> list[np.ndarray]:
        """The pooled vectors of each pass, float32 ``[n, width]``."""
        found: list[np.ndarray | None] = [None] * len(passes)
        for index, (ids, mask) in enumerate(passes):
            self._queue.start_async([ids, mask], (found, index))
        self._queue.wait_all()
        return [vectors for vectors in found if vectors is not None]

    @staticmethod
    def _keep(request: Any, told: tuple[list[np.ndarray | None], int]) -> None:
        found, index = told
        found[index] = np.array(request.get_output_tensor(0).data)  # the next pass overwrites it
