"""The verb of all stages: `perform(body, job)`, dispatched on the class of the stage's word."""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

import xxhash

from graftwork.spec.stages import StageBody, Training
from graftwork_train.job import Job, Outcome


@singledispatch
def perform(body: StageBody, job: Job) -> Outcome:
    """Do what the stage says: read the job's inputs, write its files, return what was done.

    Raises:
        graftwork.errors.RunError: the stage cannot do its work, and the user can help it.
    """
    raise TypeError(f"no stage performs {type(body).__name__}; is it imported in stages/__init__?")


def drawn(job: Job, body: Training) -> Job:
    """The job at a seed of the stage's draw, which follows from the step's own."""
    if not body.draw:
        return job
    # 31 bits, as specs' seeds have: torch's generator looks at the lower 32 only.
    seed = xxhash.xxh3_64_intdigest(f"{job.step.seed}/{body.draw}".encode()) >> 33
    return replace(job, step=job.step.model_copy(update={"seed": seed}))
