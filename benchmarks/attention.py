"""Attention on a CPU, forward and backward: ours against torch's own kernel.

    python benchmarks/attention.py [--threads 2] [--turns 7]

Both take turns on the same queries, keys and values. Prints one JSON object: for every shape and
type, milliseconds of torch's kernel and how many times as fast ours is, by medians.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from graftwork_train.nn.attention import document_mask
from graftwork_train.nn.rows import attend_rows, faster

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
# Sequences, heads, key and value heads, tokens, size of a head; documents in a sequence.
SHAPES = [
    (64, 4, 4, 32, 32, 1), (64, 4, 4, 64, 32, 1), (32, 4, 2, 128, 32, 1), (16, 8, 8, 256, 32, 1),
    (8, 6, 2, 512, 16, 1), (8, 10, 2, 512, 32, 1), (8, 10, 2, 512, 32, 4),
    (8, 8, 2, 512, 32, 1), (4, 12, 4, 512, 64, 1), (2, 16, 4, 1024, 64, 1),
    (2, 12, 12, 1024, 64, 1), (1, 12, 12, 2048, 64, 1), (1, 16, 8, 4096, 128, 1),
]  # fmt: skip
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def measured(shape: tuple[int, ...], dtype: torch.dtype, turns: int) -> dict[str, float]:
    """Both ways on one shape."""
    sequences, heads, shared, length, size, documents = shape
    made = torch.Generator().manual_seed(0)

    def draw(count: int) -> Tensor:
        # As projections give them: heads side by side.
        drawn = torch.randn(sequences, length, count, size, generator=made).to(dtype)
        return drawn.transpose(1, 2).requires_grad_()

    inputs, grad = (draw(heads), draw(shared), draw(shared)), draw(heads).detach()
    mask = None
    if documents > 1:
        ids = torch.randint(documents, (sequences, length), generator=made).sort(-1).values
        mask = document_mask(ids, dtype)

    def theirs(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=heads != shared
        )

    def ours(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend_rows(q, k, v, mask, True)

    ways: tuple[Attend, Attend] = (theirs, ours)
    seconds: list[list[float]] = [[], []]
    for turn in range(turns + 1):
        for way, taken in zip(ways, seconds, strict=True):
            began = time.perf_counter()
            torch.autograd.grad(way(*inputs), inputs, grad)
            if turn:
                taken.append(time.perf_counter() - began)
    ratio = median(their / our for their, our in zip(*seconds, strict=True))
    return {
        "torch_milliseconds": round(median(seconds[0]) * 1e3, 2),
        "times": round(ratio, 2),
        "taken": faster(*inputs[:2], dtype),
    }


def main() -> None:
    """Measure all shapes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = {}
    for shape in SHAPES:
        for name, dtype in TYPES.items():
            key = "B{} H{} K{} T{} C{} documents {} ".format(*shape) + name
            found[key] = measured(shape, dtype, arguments.turns)
            print(key, found[key], file=sys.stderr, flush=True)
    print(json.dumps({"threads": arguments.threads, "shapes": found}, indent=1))


if __name__ == "__main__":
    main()
