"""The device and the arithmetic of a trial."""

from __future__ import annotations

import contextlib
from typing import Literal

import torch

from labs.runtime.errors import InputError

Precision = Literal["auto", "float32", "bfloat16"]


def resolve_device(name: str = "auto") -> torch.device:
    """The device called ``name``; ``auto`` is the GPU that this process was given, else the CPU.

    Raises:
        InputError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"`device` {name} is not a valid device: use auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"`device` {name}: there is no GPU here; use auto or cpu")
    return device


def resolve_precision(precision: Precision, device: torch.device) -> torch.dtype:
    """The type that matrix products and convolutions run in.

    ``auto`` is bfloat16 where the device has instructions for it (an NVIDIA GPU from Ampere on, a
    CPU with AVX512-BF16 or AMX) and float32 elsewhere: emulated bfloat16 was measured 10 (conv) to
    80 (matmul) times slower than float32 on a CPU with AVX2 only.
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
    """Run the enclosed forward pass in ``dtype``: nothing for float32, mixed precision else."""
    if dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=dtype)
