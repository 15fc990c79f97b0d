"""How this process gets its memory from the operating system."""

from __future__ import annotations

import ctypes
import functools
import sys

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
