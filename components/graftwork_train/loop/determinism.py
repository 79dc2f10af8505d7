"""`deterministic: true`: the same bits every time on the same workers.

Every sum is taken in one order: PyTorch chooses algorithms that do so, or refuses the operation;
cuBLAS keeps its workspaces apart; and the micro-batch does not follow the machine's memory (see
`loop.plan`). On CPUs our operations are deterministic without all this.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch

from graftwork.errors import RunError

# One workspace of eight buffers of 4 MiB for each stream, as NVIDIA's manual of cuBLAS asks for
# under "Results Reproducibility"; it is read when cuBLAS is first used.
CUBLAS = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@contextlib.contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """Have PyTorch compute deterministically, if that is wanted; everything is put back after.

    Raises:
        RunError: an operation has no deterministic form.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault(*CUBLAS)
    fill: Any = torch.utils.deterministic  # its setting has no type
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    filled = fill.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    # PyTorch would fill every new tensor; nothing here reads one before it is written.
    fill.fill_uninitialized_memory = False
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        raise RunError(
            f"an operation cannot be deterministic here: {str(error).splitlines()[0]}",
            "Write 'deterministic: false', or train without the method that needs it.",
        ) from error
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
        fill.fill_uninitialized_memory = filled
