"""`grow`: a larger model out of a trained one, streamed from file to file."""

from __future__ import annotations

from graftwork.errors import RunError
from graftwork.spec.model import Architecture
from graftwork.spec.stages import Grow
from graftwork_train import surgery
from graftwork_train.growth import grow as grow_by
from graftwork_train.job import Job, Outcome
from graftwork_train.stages.base import perform


@perform.register
def grow(body: Grow, job: Job) -> Outcome:
    """Grow the model of `from`; weights only, the optimizer starts afresh.

    Raises:
        RunError: the model cannot be grown so, or the method broke its contract.
    """
    before = surgery.open_patient(job.artifact("from").path, "grow")
    target = _target(body, before.card.architecture)
    promise = body.method.promise(before.card.architecture)
    grown = grow_by(body.method, before.state, job.step.seed)
    card = surgery.write_result(job, before, grown.state, target)
    change = surgery.check_function(job, before, card, promise)
    notes = (*grown.notes, _told(change, promise))
    blocks = {
        "title": "Where each block comes from",
        "columns": ["block", "made from"],
        "rows": [[index, origin] for index, origin in enumerate(grown.origin)],
    }
    surgery.write_summary(job, (before.card, card), change, notes, (blocks,))
    measured = surgery.metrics(before, grown.state, change)
    return Outcome(metrics={**grown.report, **measured}, notes=notes)


def _target(body: Grow, source: Architecture) -> Architecture:
    try:
        return body.method.target(source)
    except ValueError as error:
        what, _, remedy = str(error).partition("; ")
        raise RunError(what, f"{remedy[:1].upper()}{remedy[1:]}.") from error


def _told(change: surgery.Change, promise: str) -> str:
    promised = {
        "exact": " The method promises to keep the function here, and has.",
        "approximate": " The method promises to keep the function roughly here.",
    }.get(promise, "")
    return (
        f"On a fixed short text the loss went from {change.loss_before:.4g} to "
        f"{change.loss_after:.4g}, and scores changed by up to {change.difference:.3g}.{promised}"
    )
