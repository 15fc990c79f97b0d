"""How this process gets its memory from the operating system."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import resource
import sys
from pathlib import Path

import torch

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h


@functools.cache
def keep_freed_memory() -> bool:
    """Let glibc's malloc keep what is freed, for the rest of the process; whether it could.

    PyTorch has no cache of its own for CPU memory, and glibc returns every large block to the
    system at once. A training step then allocates the same activations anew each time, and pays a
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
    """Begin to measure the peak memory anew, for a process that runs one trial after another."""
    with contextlib.suppress(OSError):  # not Linux, or not allowed: the peak of the whole process
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): sets VmHWM to VmRSS
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()


def peak_gib() -> tuple[float, float]:
    """The most memory that this process has held since ``reset_peak``: of the host, of its GPU; GiB.

    The GPU's is what PyTorch has reserved, without the CUDA context (about half a GiB).
    """
    kib = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # macOS counts bytes
    if sys.platform == "darwin":
        kib /= 1024
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        kib = next((float(line.split()[1]) for line in lines if line.startswith("VmHWM")), kib)
    gpu = torch.cuda.max_memory_reserved() if torch.cuda.is_initialized() else 0
    return kib / 2**20, gpu / 2**30
