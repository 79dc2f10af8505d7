"""`sparsify`: train with weights held to a sparse form: from scratch, from a dense model, or on."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from graftwork.errors import RunError
from graftwork.spec.sparsity import SlTrain, Spdf
from graftwork.spec.stages import Sparsify
from graftwork.units import format_number
from graftwork_train.data.shards import TokenShards
from graftwork_train.job import Job, Outcome
from graftwork_train.loop.fit import fit
from graftwork_train.loop.plan import Start, held_at_once
from graftwork_train.nn import Decoder, load_model
from graftwork_train.nn.hf import load_card
from graftwork_train.parametrisation import initialise
from graftwork_train.sparsity import FACTORS, MASKS, constrain, masks_of, read_form
from graftwork_train.sparsity.base import Earlier
from graftwork_train.stages.base import drawn, perform
from graftwork_train.summary import extend_summary


@perform.register
def sparsify(body: Sparsify, job: Job) -> Outcome:
    """Train under the method's constraint, and keep what the weights are held to beside the model.

    A model that is sparse already goes on with its own masks or factors.

    Raises:
        RunError: the model is held to something else than the method asks for; or as `fit`.
    """
    job = drawn(job, body)
    model, start, earlier = _begin(body, job)
    context = job.step.work.context if job.step.work else model.context
    cost = partial(
        body.method.cost, model.architecture, model.vocab, context,
        before=body.method.density if earlier else 1.0,
    )  # fmt: skip
    held = partial(constrain, body.method, seed=job.step.seed, earlier=earlier)
    outcome = fit(job, body, model, start=start, constrain=held, cost=cost)
    escaped = _escaped(model, read_form(job.out))
    if escaped:
        raise RunError(
            f"{escaped} masked weights are not zero after training",
            "This is a fault of graftwork; please report it with the spec.",
        )
    return _account(body, job, model, outcome)


def _begin(body: Sparsify, job: Job) -> tuple[Decoder, Start, Earlier]:
    if body.model is not None:
        shards = TokenShards.open(job.artifact("data").tokens)
        # Before there are weights, which alone may be more than the memory.
        held_at_once(job, body, body.model, shards.vocab)
        model = Decoder(body.model, shards.vocab, shards.context, seed=job.step.seed)
        if body.parametrisation is not None:
            initialise(body.parametrisation, model, job.step.seed)
        return model, Start(), {}
    folder = job.artifact("from").path
    earlier = read_form(folder)
    _check_form(body, earlier)
    return load_model(folder), Start(load_card(folder).cursor), earlier


def _check_form(body: Sparsify, earlier: Earlier) -> None:
    """Factors are gone on with by the method that made them, and by no other."""
    factored = isinstance(body.method, SlTrain)
    if (factored and FACTORS not in earlier) or (not factored and FACTORS in earlier):
        what = "is held to factors" if FACTORS in earlier else "has no factors"
        raise RunError(
            f"{body.method.name} cannot go on with the model in 'from', which {what}",
            "Give both stages one method, put a densify stage in between, or train from scratch "
            "with 'model'.",
        )


def _escaped(model: Decoder, form: Earlier) -> int:
    """Masked weights that are not exactly zero."""
    masks = masks_of(model, form) if MASKS in form else {}
    return sum(
        int(torch.count_nonzero(model.get_parameter(name).detach()[~mask]))
        for name, mask in masks.items()
    )


def _account(body: Sparsify, job: Job, model: Decoder, outcome: Outcome) -> Outcome:
    measured, total = outcome.metrics, model.parameter_count()
    context = job.step.work.context if job.step.work else model.context
    dense = model.architecture.flops_per_token(model.vocab, context)
    held = measured["masked_parameters"]
    if isinstance(body.method, SlTrain):
        rows = [["parameters trained", format_number(measured["average_parameters"])]]
        rows += [["of the whole model's", f"{measured['average_parameters'] / total:.1%}"]]
        note = (
            "FLOPs count the products with whole weights, and the making of those once a step. "
            "The weights are stored multiplied out."
        )
    else:
        rows = [["weights held at zero", format_number(held)]]
        rows += [["of the weights that may be", f"{1 - measured['density']:.1%}"]]
        rows += [["of all parameters", f"{held / total:.1%}"]]
        rows += [["parameters, mean over steps", format_number(measured["average_parameters"])]]
        note = (
            "FLOPs count unmasked weights only. This machine multiplies with the zeros as well, so "
            "the saving is one of hardware that can skip them."
        )
        if isinstance(body.method, Spdf) and body.method.pattern == "2:4":
            note = (
                "FLOPs count unmasked weights only. Forward products in 16 bits skip the zeros on "
                "GPUs with a kernel for two of four; all others multiply with them as well."
            )
    rows += [["training FLOPs a token", format_number(outcome.flops / outcome.tokens)]]
    rows += [["the same for the dense model", format_number(dense)]]
    table = {"title": "Sparsity", "columns": ["", ""], "rows": rows}
    extend_summary(job.out, tables=[table], notes=[note])
    return replace(outcome, notes=(*outcome.notes, note))
