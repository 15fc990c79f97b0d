"""The device and the precision of a trial."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Literal

import torch

from labs.runtime.errors import InputError

_gpus_hidden = False

Precision = Literal["auto", "float32", "bfloat16"]


def resolve_device(name: str = "auto") -> torch.device:
    """The device called ``name``; ``auto`` is the GPU of this process if it has one, else the CPU.

    Raises:
        InputError: there is no such device.
    """
    has_gpu = torch.cuda.is_available() and not _gpus_hidden
    if name == "auto":
        return torch.device("cuda" if has_gpu else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"`device` {name} is not a valid device: use auto, cpu or cuda") from None
    if device.type == "cuda" and not has_gpu:
        raise InputError(f"`device` {name}: there is no GPU here; use auto or cpu")
    return device


def resolve_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The data type of matrix products and convolutions.

    ``auto`` is bfloat16 if the device has instructions for it (an NVIDIA GPU from Ampere on, a CPU with
    AVX512-BF16 or AMX) and float32 otherwise: emulated bfloat16 was 10 (conv) to 80 (matmul) times
    slower than float32 on a CPU with AVX2 only. Older GPUs (T4, V100) therefore compute in float32;
    float16, which is fast on them, would need scaled gradients.
    """
    if precision != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        features = torch.cpu.get_capabilities()
        fast = bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    return torch.bfloat16 if fast else torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> contextlib.AbstractContextManager[None]:
    """Run a forward pass in ``dtype``: mixed precision, or no change for float32."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)


@contextlib.contextmanager
def hidden_gpus(hidden: bool = True) -> Iterator[None]:
    """Inside the block ``resolve_device`` finds no GPU, as in a Ray worker without one.

    For trials in this process, where it is too late to set ``CUDA_VISIBLE_DEVICES`` once CUDA has been
    initialized.
    """
    global _gpus_hidden
    before, _gpus_hidden = _gpus_hidden, hidden
    try:
        yield
    finally:
        _gpus_hidden = before


@contextlib.contextmanager
def same_numbers() -> Iterator[None]:
    """Inside the block the same seed gives the same numbers on the same GPU.

    Otherwise cuDNN may choose another algorithm in each process (``benchmark``), and some of its
    algorithms add in a different order each time. cuBLAS also needs a fixed workspace, which
    ``labs.runtime`` sets before CUDA starts (https://pytorch.org/docs/stable/notes/randomness.html).
    """
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.deterministic
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.deterministic = before
