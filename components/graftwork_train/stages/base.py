"""The verb of all stages: `perform(body, job)`, dispatched on the class of the stage's word."""

from __future__ import annotations

from functools import singledispatch

from graftwork.spec.stages import StageBody
from graftwork_train.job import Job, Outcome


@singledispatch
def perform(body: StageBody, job: Job) -> Outcome:
    """Do what the stage says: read the job's inputs, write its files, return what was done.

    Raises:
        graftwork.errors.RunError: the stage cannot do its work, and the user can help it.
    """
    raise TypeError(f"no stage performs {type(body).__name__}; is it imported in stages/__init__?")
