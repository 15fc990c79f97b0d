"""How this process gets its memory from the operating system."""

from __future__ import annotations

import ctypes
import functools
import gc
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
