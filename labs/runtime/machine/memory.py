"""The memory of this process: how it is allocated, and how much a trial needs."""

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
    """Let glibc's malloc keep freed memory for the rest of the process; returns whether it could.

    PyTorch has no cache for CPU memory, and glibc returns every large block to the system at once. Every
    training step then allocates its activations again, with a page fault for each 4 KiB, which on a
    virtual machine takes longer than the arithmetic on them. It has no effect except on Linux with
    glibc.
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
    """Release the memory of a trial, so that its process can run the next one like a new process.

    That is garbage, the GPU's cache, the compiler's cache (after eight versions of a function Dynamo
    silently stops compiling it), and the free memory that glibc keeps (see ``keep_freed_memory``).
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if "torch._dynamo" in sys.modules:  # its import takes longer than many trials
        sys.modules["torch._dynamo"].reset()
    if keep_freed_memory():
        ctypes.CDLL(None).malloc_trim(0)


def resident_bytes() -> int | None:
    """The resident memory of this process; None if it is not known (not Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * 4096


def reset_peak() -> None:
    """Start to measure the peak memory again, in a process that runs one trial after another."""
    with contextlib.suppress(OSError):  # not Linux, or not allowed: then it is the process's peak
        Path("/proc/self/clear_refs").write_bytes(b"5")  # proc(5): sets VmHWM to VmRSS
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


class MemoryUse(TypedDict):
    """The peak memory of a trial's process so far, in GiB."""

    host: float
    gpu: float
    """Reserved by PyTorch, without the CUDA context; 0 if the trial uses no GPU."""
    gpu_size: float
    """Total memory of the trial's GPU; 0 if the trial uses no GPU."""


def peak_memory() -> MemoryUse:
    """The peak memory of this process since :func:`reset_peak`."""
    kib = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # macOS counts bytes
    if sys.platform == "darwin":
        kib /= 1024
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        kib = next((float(line.split()[1]) for line in lines if line.startswith("VmHWM")), kib)
    gpu, size = 0, 0
    if torch.cuda.is_initialized():
        gpu, size = (
            torch.cuda.max_memory_reserved(),
            torch.cuda.get_device_properties().total_memory,
        )
    return {"host": kib / 2**20, "gpu": gpu / 2**30, "gpu_size": size / 2**30}


CONTEXT_GIB = 0.6
"""Memory of a CUDA context with PyTorch's kernels, which each process needs beside its tensors."""
FREE_SHARE = 0.05
"""Share of a GPU's memory that is kept free, for the gaps that allocators leave."""


def trials_on_a_gpu(peak: float, size: float) -> int:
    """How many trials fit into the memory of one GPU; 0 if not even one leaves ``FREE_SHARE``.

    Args:
        peak: peak memory that PyTorch reserved in one such trial, in GiB.
        size: the memory of the GPU, in GiB.
    """
    return int((1 - FREE_SHARE) * size / (peak + CONTEXT_GIB))


def share_of_a_gpu(trials: int) -> float:
    """The ``gpus_per_trial`` for this many trials on a GPU, rounded down to Ray's four decimals."""
    return math.floor(1e4 / trials) / 1e4


class PeakMemory:
    """The peak memory of each trial of a grid, over all its attempts and sessions."""

    def __init__(self) -> None:
        self._peaks: dict[int, MemoryUse] = {}
        self._advised: int | None = None
        """The number of trials that the last advice gave."""

    def add(self, index: int, use: MemoryUse) -> None:
        """Add the peak memory of an attempt of a trial, also from an earlier session."""
        before = self._peaks.get(index, use)
        self._peaks[index] = {
            "host": max(before["host"], use["host"]),
            "gpu": max(before["gpu"], use["gpu"]),
            "gpu_size": use["gpu_size"] or before["gpu_size"],
        }

    def of(self, index: int) -> MemoryUse | None:
        """A trial's peaks; None if it has not reported yet."""
        return self._peaks.get(index)

    def advice(self, index: int, name: str) -> str | None:
        """A sentence on how many trials like this one fit on a GPU; None if the last advice is valid.

        One share is for the whole grid, so only a trial that needs more memory than the earlier ones
        changes the advice.
        """
        use = self._peaks.get(index)
        if use is None or not use["gpu"]:
            return None
        fit = trials_on_a_gpu(use["gpu"], use["gpu_size"])
        if self._advised is not None and fit >= self._advised:
            return None
        self._advised = fit
        took = f"{name} took {use['gpu']:.1f} of the GPU's {use['gpu_size']:.1f} GiB"
        if fit < 2:
            return f"{took}: a second trial like it would not fit on the GPU (--gpus-per-trial 1)"
        return f"{took}: {fit} such trials would fit (--gpus-per-trial {share_of_a_gpu(fit):g})"
