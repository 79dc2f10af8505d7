"""`train`: a model from scratch."""

from __future__ import annotations

from graftwork.spec.stages import Train
from graftwork_train.data.shards import TokenShards
from graftwork_train.job import Job, Outcome
from graftwork_train.loop.fit import fit
from graftwork_train.loop.plan import held_at_once
from graftwork_train.nn import Decoder
from graftwork_train.parametrisation import initialise
from graftwork_train.stages.base import drawn, perform


@perform.register
def train(body: Train, job: Job) -> Outcome:
    """Initialise from the step's seed, and train.

    Raises:
        RunError: as `fit`.
    """
    job = drawn(job, body)
    shards = TokenShards.open(job.artifact("data").tokens)
    # Before there are weights, which alone may be more than the memory.
    held_at_once(job, body, body.model, shards.vocab)
    model = Decoder(body.model, shards.vocab, shards.context, seed=job.step.seed)
    if body.parametrisation is not None:
        initialise(body.parametrisation, model, job.step.seed)
    return fit(job, body, model)
