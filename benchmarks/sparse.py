"""Products with sparse weights by PyTorch's sparse kernels, against the dense product with zeros.

On a CPU block-sparse rows (BSR), on a GPU also 2:4 (semi-structured) in bf16. Figures are the
fastest of several turns in milliseconds; `ratio` is sparse over dense (below 1: sparse is faster).
`renewed` also makes the sparse form anew, as training must after every step.

    python benchmarks/sparse.py
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Row = dict[str, Any]

TOKENS, TURNS = 1024, 3
SIZES = ((128, 384), (512, 1536))
GPU_SIZES = ((1024, 4096), (4096, 14336))
BLOCKS = (16, 64)
SPARSITIES = (0.5, 0.75)


def fastest(work: Callable[[], Tensor]) -> float:
    """Milliseconds of the fastest turn, after one to warm up."""
    best = float("inf")
    for turn in range(TURNS + 1):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        begin = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if turn:
            best = min(best, time.perf_counter() - begin)
    return best * 1e3


def row(label: str, x: Tensor, weight: Tensor, convert: Callable[[Tensor], Tensor]) -> Row:
    """One comparison of a weight (out, in), zeros and all, on x (tokens, in)."""
    sparse = convert(weight)
    dense = fastest(lambda: F.linear(x, weight))
    kept = fastest(lambda: F.linear(x, sparse))
    renewed = fastest(lambda: F.linear(x, convert(weight)))
    return {
        "kernel": label, "weight": list(weight.shape), "dense_ms": round(dense, 3),
        "sparse_ms": round(kept, 3), "ratio": round(kept / dense, 2),
        "renewed_ratio": round(renewed / dense, 2),
    }  # fmt: skip


def to_blocks(block: int, weight: Tensor) -> Tensor:
    """Block-sparse rows."""
    return weight.to_sparse_bsr((block, block))


def block_sparse(device: str, sizes: tuple[tuple[int, int], ...]) -> Iterator[Row]:
    """BSR, by size of blocks and share of zero ones."""
    for width, hidden in sizes:
        x = torch.randn(TOKENS, width, device=device)
        for block in BLOCKS:
            for sparsity in SPARSITIES:
                mask = torch.rand(hidden // block, width // block, device=device) >= sparsity
                whole = mask.repeat_interleave(block, 0).repeat_interleave(block, 1)
                weight = torch.randn(hidden, width, device=device) * whole
                label = f"bsr {block}x{block}, {sparsity:.0%} zero"
                yield row(label, x, weight, partial(to_blocks, block))


def two_of_four() -> Iterator[Row]:
    """Two of four weights in a row, bf16."""
    for width, hidden in GPU_SIZES:
        x = torch.randn(TOKENS, width, device="cuda", dtype=torch.bfloat16)
        weight = torch.randn(hidden, width, device="cuda", dtype=torch.bfloat16)
        places = weight.abs().view(-1, 4).topk(2, dim=1).indices
        mask = torch.zeros_like(weight).view(-1, 4).scatter_(1, places, 1).view_as(weight)
        yield row("2:4", x, weight * mask, torch.sparse.to_sparse_semi_structured)


def main() -> None:
    """Measure and print."""
    torch.manual_seed(0)
    rows = list(block_sparse("cpu", SIZES))
    if torch.cuda.is_available():
        rows += [*block_sparse("cuda", GPU_SIZES), *two_of_four()]
    json.dump({"threads": torch.get_num_threads(), "rows": rows}, sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
