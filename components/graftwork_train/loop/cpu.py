"""A process that trains on CPU cores."""

from __future__ import annotations

import ctypes

import torch

# Of glibc's malloc.h, and the most that its manual allows for the second one.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_TRIM, _MMAP = 2**31 - 1, 32 * 2**20


def use_cpu(cores: int) -> None:
    """Calculate on this many cores, and keep memory from one step to the next.

    Every step frees what it holds of activations, and asks for as much again. glibc would give
    much of it back to the kernel, which then clears it page by page while it is written to. What
    is freed stays with the process here, up to 2 GiB, but for tensors of more than 32 MiB, which
    glibc maps one by one. Another C library is left as it is.
    """
    torch.set_num_threads(cores)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, _TRIM)
        mallopt(_MMAP_THRESHOLD, _MMAP)
