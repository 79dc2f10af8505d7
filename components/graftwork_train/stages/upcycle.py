"""`upcycle`: a mixture of experts out of a dense model, streamed from file to file."""

from __future__ import annotations

from graftwork.spec.stages import Upcycle
from graftwork_train import surgery
from graftwork_train.job import Job, Outcome
from graftwork_train.stages.base import perform
from graftwork_train.upcycling import upcycle as upcycle_by


@perform.register
def upcycle(body: Upcycle, job: Job) -> Outcome:
    """Upcycle the model of `from`; weights only, the optimizer starts afresh.

    Raises:
        RunError: the model cannot be upcycled so, or the method broke its contract.
    """
    before = surgery.open_patient(job.artifact("from").path, "upcycle")
    upcycled = upcycle_by(body.method, before.state, job.step.seed)
    target = body.method.target(before.card.architecture)
    card = surgery.write_result(job, before, upcycled.state, target)
    change = surgery.check_function(job, before, card, body.method.contract)
    notes = (*upcycled.notes, _told(change))
    surgery.write_summary(job, (before.card, card), change, notes)
    measured = surgery.metrics(before, upcycled.state, change)
    return Outcome(metrics={**upcycled.report, **measured}, notes=notes)


def _told(change: surgery.Change) -> str:
    return (
        f"On a fixed short text the model's scores are those of the dense one within "
        f"{change.difference:.2g}."
    )
