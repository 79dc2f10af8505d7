"""Memory of one worker in training, by estimate."""

from __future__ import annotations

from graftwork.plan.work import Model
from graftwork.spec.memory import training_memory
from graftwork.spec.resources import Pool
from graftwork.spec.stages import Training
from graftwork.step import StepWork


def room(pool: Pool) -> int | None:
    """Bytes that a worker's training may take, where the pool says so.

    With accelerators the weights lie in their memory, which Kubernetes does not know of.
    """
    return pool.accelerator_memory if pool.gpus_per_worker else pool.memory


def worker_bytes(model: Model, work: StepWork, pool: Pool, body: Training) -> int:
    """Bytes that one worker needs: weights, gradients, moments, and a micro-batch's activations.

    Without a `micro_batch` a worker holds its share of the batch, or as much of it as fits.
    """
    share = -(-work.sequences // max(1, body.parallel.sharers(pool.workers)))
    held = min(share, body.micro_batch or share)
    need = training_memory(model.architecture, model.vocab, model.context, body, pool.workers)
    limit = room(pool)
    if body.micro_batch or limit is None or need.of(held) <= limit:
        return need.of(held)
    return need.of(max(1, (limit - need.fixed) // need.each))
