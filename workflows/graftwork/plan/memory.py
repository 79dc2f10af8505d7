"""Memory of one worker in training, by estimate."""

from __future__ import annotations

from graftwork.plan.work import Model
from graftwork.spec.resources import Pool
from graftwork.step import StepWork


def room(pool: Pool) -> int | None:
    """Bytes that a worker's training may take, where the pool says so.

    With accelerators the weights lie in their memory, which Kubernetes does not know of.
    """
    return pool.accelerator_memory if pool.gpus_per_worker else pool.memory


def worker_bytes(model: Model, work: StepWork, pool: Pool, micro_batch: int | None) -> int:
    """Bytes that one worker needs: weights, gradients, moments, and a micro-batch's activations.

    Without a `micro_batch` a worker holds its share of the batch, or as much of it as fits.
    """
    share = -(-work.sequences // pool.workers)
    held = min(share, micro_batch or share)
    needed = model.architecture.training_bytes(model.vocab, model.context, held)
    limit = room(pool)
    if micro_batch or limit is None or needed <= limit:
        return needed
    weights = model.architecture.training_bytes(model.vocab, model.context, 0)
    each = model.architecture.training_bytes(model.vocab, model.context, 1) - weights
    return weights + each * max(1, (limit - weights) // each)
