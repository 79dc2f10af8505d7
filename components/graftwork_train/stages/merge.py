"""`merge`: one model out of several of one shape, streamed from file to file."""

from __future__ import annotations

from dataclasses import replace

from graftwork.errors import RunError
from graftwork.spec.stages import Merge
from graftwork_train import surgery
from graftwork_train.job import Job, Outcome
from graftwork_train.merging import merge as merge_by
from graftwork_train.merging._vectors import Vectors, check_alike
from graftwork_train.nn.hf import ModelCard
from graftwork_train.stages.base import perform


@perform.register
def merge(body: Merge, job: Job) -> Outcome:
    """Merge the models of `from`; weights only, the optimizer starts afresh.

    What trains the result on goes on in each data where the model that had read most of it stopped.

    Raises:
        RunError: the models are not of one shape, or a sparse one is among them.
    """
    roles = [f"from.{index}" for index in range(len(body.from_))]
    models = [surgery.open_patient(job.artifact(role).path, "merge") for role in roles]
    base = surgery.open_patient(job.artifact("base").path, "merge") if body.base else None
    everyone = [*([base] if base else []), *models]
    named = dict(zip([*([body.base] if body.base else []), *body.from_], everyone, strict=True))
    check_alike({f"model {name!r}": patient.state for name, patient in named.items()})
    _check_cards({str(name): patient.card for name, patient in named.items()})
    states = tuple(patient.state for patient in models)
    merged = merge_by(body.method, Vectors(states, base.state if base else None))
    cursor: dict[str, int] = {}
    for patient in everyone:
        for data, count in patient.card.cursor.items():
            cursor[data] = max(count, cursor.get(data, 0))
    card = everyone[0].card.model_copy(update={"cursor": cursor})
    before = replace(everyone[0], card=card)
    written = surgery.write_result(job, before, merged.state, card.architecture)
    change = surgery.check_function(job, before, written, body.method.contract)
    told = (
        f"On a fixed short text the loss of {next(iter(named))} is {change.loss_before:.4g}, "
        f"and that of the merged model {change.loss_after:.4g}."
    )
    notes = (*merged.notes, told)
    surgery.write_summary(job, (card, written), change, notes, merged.tables)
    measured = surgery.metrics(before, merged.state, change)
    report = {**merged.report, **measured, "models": float(len(models))}
    return Outcome(metrics=report, notes=notes)


def _check_cards(cards: dict[str, ModelCard]) -> None:
    """Models of the same tensors may still read them differently."""
    (label, first), *others = cards.items()
    for name, card in others:
        for key in type(first.architecture).model_fields:
            ours, theirs = (getattr(c.architecture, key) for c in (first, card))
            if ours != theirs:
                raise RunError(
                    f"the models {label!r} and {name!r} cannot be merged: {key} is {ours} in the "
                    f"one and {theirs} in the other",
                    "Merge models of one architecture, trained from one base.",
                )
