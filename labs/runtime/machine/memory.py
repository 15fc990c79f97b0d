"""How this process gets its memory from the operating system."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import math
import resource
import sys
from pathlib import Path
from typing import TypedDict

import torch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h


@functools.cache
def keep_freed_memory() -> bool:
    """Let glibc's malloc keep what is freed, for the rest of the process; whether it could.

    PyTorch has no cache of its own for CPU memory, and glibc returns every large block to the
    system at once. A training step then allocates the same activations again each time, and pays a
    page fault for each 4 KiB of them, on a virtual machine more than the arithmetic on it costs.
    Elsewhere than on Linux with glibc nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library, such as musl
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 64 * 2**20))
    accepted = [mallopt(*setting) for setting in settings]
    return all(accepted)


def release_memory() -> None:
    """Give back what a trial has left behind, so that a process can run the next one as if new.

    Garbage, the GPU's cache, the compiler's cache (Dynamo stops compiling a function after eight
    versions of it, without a word), and free memory that glibc keeps: see ``keep_freed_memory``.
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if "torch._dynamo" in sys.modules:  # to import it takes longer than many a trial
        sys.modules["torch._dynamo"].reset()
    if keep_freed_memory():
        ctypes.CDLL(None).malloc_trim(0)


def resident_bytes() -> int | None:
    """The memory that this process holds now; None where the system does not say (not Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * 4096


def reset_peak() -> None:
    """Begin to measure the peak memory again, for a process that runs one trial after another."""
    with contextlib.suppress(OSError):  # not Linux, or not allowed: the peak of the whole process
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): sets VmHWM to VmRSS
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


class MemoryUse(TypedDict):
    """What a trial's process has held at most so far, all in GiB."""

    host: float
    gpu: float
    """What PyTorch has reserved, without the CUDA context; 0 where the trial uses no GPU."""
    gpu_size: float
    """The memory of the trial's GPU; 0 where the trial uses none."""


def peak_memory() -> MemoryUse:
    """The most memory that this process has held since :func:`reset_peak`."""
    kib = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # macOS counts bytes
    if sys.platform == "darwin":
        kib /= 1024
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        kib = next((float(line.split()[1]) for line in lines if line.startswith("VmHWM")), kib)
    gpu, size = 0, 0
    if torch.cuda.is_initialized():
        gpu, size = (
            torch.cuda.max_memory_reserved(),
            torch.cuda.get_device_properties().total_memory,
        )
    return {"host": kib / 2**20, "gpu": gpu / 2**30, "gpu_size": size / 2**30}


CONTEXT_GIB = 0.6
"""A CUDA context with PyTorch's kernels, which each process has on the GPU beside its tensors."""
FREE_SHARE = 0.05
"""Of a GPU's memory, not counted on: processes do not reach their peaks at the same moment for sure,
and allocators leave gaps."""


def trials_on_a_gpu(peak: float, size: float) -> int:
    """How many trials fit on one GPU by their memory; 0 where not even one does with room to spare.

    Args:
        peak: what one such trial has reserved at most, in GiB.
        size: the memory of the GPU, in GiB.
    """
    return int((1 - FREE_SHARE) * size / (peak + CONTEXT_GIB))


def share_of_a_gpu(trials: int) -> float:
    """``gpus_per_trial`` that puts so many trials on a GPU, rounded down to Ray's four decimals."""
    return math.floor(1e4 / trials) / 1e4


class PeakMemory:
    """The peaks of a grid's trials, each over all its attempts and sessions."""

    def __init__(self) -> None:
        self._peaks: dict[int, MemoryUse] = {}
        self._told: int | None = None
        """How many trials fit, as it was said last."""

    def add(self, index: int, use: MemoryUse) -> None:
        """Take what a trial has held in an attempt, or in a session before this one."""
        before = self._peaks.get(index, use)
        self._peaks[index] = {
            "host": max(before["host"], use["host"]),
            "gpu": max(before["gpu"], use["gpu"]),
            "gpu_size": use["gpu_size"] or before["gpu_size"],
        }

    def of(self, index: int) -> MemoryUse | None:
        """A trial's peaks; None where it has not said anything yet."""
        return self._peaks.get(index)

    def advice(self, index: int, name: str) -> str | None:
        """How many trials such as this one fit on a GPU; None where that is known already.

        A trial that needs less than one before it changes nothing: one share serves the whole grid.
        """
        use = self._peaks.get(index)
        if use is None or not use["gpu"]:
            return None
        fit = trials_on_a_gpu(use["gpu"], use["gpu_size"])
        if self._told is not None and fit >= self._told:
            return None
        self._told = fit
        took = f"{name} took {use['gpu']:.1f} of the GPU's {use['gpu_size']:.1f} GiB"
        if fit < 2:
            return f"{took}: no second one such as it would fit on the GPU (--gpus-per-trial 1)"
        return f"{took}: {fit} such trials would fit (--gpus-per-trial {share_of_a_gpu(fit):g})"
