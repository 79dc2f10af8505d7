"""Whether a training's division among workers fits its pool, its model and its arithmetic.

Findings are pairs of the key's path in the stage and a message, `what is wrong; what to do`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graftwork.spec.base import Path
from graftwork.spec.model import Architecture
from graftwork.spec.parallel import Parallel
from graftwork.spec.resources import Pool
from graftwork.spec.sparsity import Spdf
from graftwork.spec.stages import Sparsify, Training

Found = Iterator[tuple[Path, str]]


def parallel_problems(
    body: Training, architecture: Architecture | None, pool: Pool | None
) -> Found:
    """What does not go together in a training: its workers, its model and its arithmetic.

    Args:
        body: The training.
        architecture: Its model's; None where that is in doubt.
        pool: Where it runs; None is one worker.
    """
    workers = pool.workers if pool else 1
    told = f"pool {body.pool!r} has {workers}" if pool else "without a pool there is 1"
    wrong = next(_workers(body.parallel, workers, told), None)
    if wrong:
        yield wrong
        return
    if pool is not None:
        yield from _elastic(body, pool)
    if body.precision == "fp8":
        yield from _fp8(body, pool)
    if isinstance(body, Sparsify) and not isinstance(body.method, Spdf):
        yield from _sparse(body.method.name, body.parallel, workers)
    if architecture is None:
        return
    if body.parallel.tensor > 1:
        yield from _tensor(body.parallel.tensor, architecture, workers)
    if body.parallel.expert > 1:
        yield from _expert(body.parallel, architecture, workers)


def _workers(word: Parallel, workers: int, told: str) -> Found:
    if workers % word.tensor:
        yield (
            ("parallel", "tensor"),
            f"tensor: {word.tensor} divides a model among {word.tensor} workers, and {told}; "
            f"use a pool of {word.tensor} workers or a multiple, or leave tensor out",
        )
    elif word.sharers(workers) % word.expert:
        yield (
            ("parallel", "expert"),
            f"expert: {word.expert} divides experts among {word.expert} of the workers that share "
            f"the batch, which are {word.sharers(workers)} ({told}); use a pool of "
            f"{word.expert * word.tensor} workers or a multiple, or leave expert out",
        )


def _elastic(body: Training, pool: Pool) -> Found:
    unit = body.parallel.tensor * body.parallel.expert
    if unit > 1 and (pool.min_workers or pool.workers) < pool.workers:
        key = "tensor" if body.parallel.tensor > 1 else "expert"
        yield (
            ("parallel", key),
            f"a model divided among {unit} workers needs all of them, and pool {body.pool!r} goes "
            f"on with as few as {pool.min_workers}; leave min_workers out, or divide by "
            f"'data: fsdp' alone",
        )


def _fp8(body: Training, pool: Pool | None) -> Found:
    if pool is None or not pool.gpus_per_worker:
        where = f"pool {body.pool!r} has none" if pool else "without a pool there is none"
        yield (
            ("precision",),
            f"fp8 needs accelerators, and {where}; write 'precision: bf16', or name a pool of "
            f"GPUs that multiply in fp8",
        )
    if body.parallel.tensor > 1:
        yield (
            ("precision",),
            "fp8 is not made for matrices divided by 'tensor'; divide by 'data: fsdp' alone, or "
            "write 'precision: bf16'",
        )


def _sparse(method: str, word: Parallel, workers: int) -> Found:
    """Masks that are drawn once can be divided; what looks at all weights cannot."""
    keys = [key for key in ("tensor", "expert") if getattr(word, key) > 1]
    keys += ["data"] if word.data == "fsdp" and word.sharers(workers) > 1 else []
    if keys:
        yield (
            ("parallel", keys[0]),
            f"{method} looks at whole weights, and {keys[0]}: {getattr(word, keys[0])} divides "
            f"them; write 'data: ddp', and leave tensor and expert out",
        )


def _tensor(ways: int, model: Architecture, workers: int) -> Found:
    sizes = {"heads": model.heads, "KV heads": model.key_value_heads}
    if model.experts is None:
        sizes["inner size of the feed-forward block"] = model.hidden
    else:
        sizes["inner size of an expert"] = model.expert_hidden
    wrong = {name: size for name, size in sizes.items() if size % ways}
    if wrong:
        name, size = next(iter(wrong.items()))
        divisible = [*sizes.values(), workers]
        fitting = [n for n in range(2, ways) if all(size % n == 0 for size in divisible)]
        remedy = f"use tensor: {fitting[-1]}" if fitting else "divide by 'data: fsdp' instead"
        yield (
            ("parallel", "tensor"),
            f"{ways} workers cannot divide {size} ({name}); {remedy}",
        )
    if model.positions == "alibi":
        yield (
            ("parallel", "tensor"),
            "ALiBi gives every head a slope of its own, which is not divided; divide by "
            "'data: fsdp' instead",
        )
    if model.qk_norm == "whole":
        yield (
            ("parallel", "tensor"),
            "'qk_norm: whole' is a norm over all heads, which are not on one worker; divide by "
            "'data: fsdp' instead, or use 'qk_norm: head'",
        )


def _expert(word: Parallel, model: Architecture, workers: int) -> Found:
    if model.experts is None:
        yield (
            ("parallel", "expert"),
            "the model has no experts to divide; leave expert out",
        )
    elif model.experts.count % word.expert:
        count, sharers = model.experts.count, word.sharers(workers)
        fitting = [n for n in range(1, word.expert) if count % n == sharers % n == 0]
        yield (
            ("parallel", "expert"),
            f"{word.expert} workers cannot divide {count} experts; use expert: {fitting[-1]}",
        )
