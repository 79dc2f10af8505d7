"""`upcycle`: a mixture of experts out of a dense model, or back, streamed from file to file."""

from __future__ import annotations

from graftwork.errors import RunError
from graftwork.spec.family import inexpressible
from graftwork.spec.model import Architecture
from graftwork.spec.stages import Upcycle
from graftwork_train import surgery
from graftwork_train.job import Job, Outcome
from graftwork_train.stages.base import perform
from graftwork_train.state import State
from graftwork_train.upcycling import similarity
from graftwork_train.upcycling import upcycle as upcycle_by


@perform.register
def upcycle(body: Upcycle, job: Job) -> Outcome:
    """Upcycle the model of `from`; weights only, the optimizer starts afresh.

    Raises:
        RunError: the model cannot be upcycled so, or the method broke its contract.
    """
    before = surgery.open_patient(job.artifact("from").path, "upcycle", own=True)
    target = _target(body, before.card.architecture)
    promise = body.method.promise(before.card.architecture)
    upcycled = upcycle_by(body.method, before.state, job.step.seed)
    card = surgery.write_result(job, before, upcycled.state, target)
    change = surgery.check_function(job, before, card, promise)
    notes = (*upcycled.notes, *_format(target), _told(change, promise))
    parts = {
        "title": "What each part is made from",
        "columns": ["part", "made from"],
        "rows": [list(row) for row in upcycled.origin],
    }
    surgery.write_summary(job, (before.card, card), change, notes, (parts,))
    measured = surgery.metrics(before, upcycled.state, change)
    if target.experts:
        likeness = similarity(State.open(job.out, own=True), target)
        measured = {**measured, "expert_similarity": likeness}
    return Outcome(metrics={**upcycled.report, **measured}, notes=notes)


def _target(body: Upcycle, source: Architecture) -> Architecture:
    try:
        return body.method.target(source)
    except ValueError as error:
        what, _, remedy = str(error).partition("; ")
        raise RunError(what, f"{remedy[:1].upper()}{remedy[1:]}.") from error


def _format(target: Architecture) -> tuple[str, ...]:
    missing = inexpressible(target)
    if not missing:
        return ()
    return (
        f"The model is kept in graftwork's own format, since no Hugging Face family has all of "
        f"its parts ({missing}): it trains and evaluates as any other, but transformers cannot "
        f"load it.",
    )


def _told(change: surgery.Change, promise: str) -> str:
    promised = {
        "exact": " The method promises to keep the function here, and has.",
        "approximate": " The method promises to keep the function roughly here.",
    }.get(promise, "")
    return (
        f"On a fixed short text the loss went from {change.loss_before:.4g} to "
        f"{change.loss_after:.4g}, and scores changed by up to {change.difference:.3g}.{promised}"
    )
