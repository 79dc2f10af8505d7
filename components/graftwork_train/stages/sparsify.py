"""`sparsify`: train with masks on the weights: from scratch, from a dense model, or on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from graftwork.errors import RunError
from graftwork.spec.stages import Sparsify
from graftwork.units import format_number
from graftwork_train.data.shards import TokenShards
from graftwork_train.job import Job, Outcome
from graftwork_train.layout import layout
from graftwork_train.loop.fit import fit
from graftwork_train.loop.plan import Start
from graftwork_train.masked import as_tensors, count_escaped, count_held
from graftwork_train.nn import Decoder, load_model
from graftwork_train.nn.hf import hf_config, load_card, load_tensors, save_tensors
from graftwork_train.sparsity import MASKS, draw_masks, read_masks
from graftwork_train.stages.base import perform
from graftwork_train.summary import extend_summary


@perform.register
def sparsify(body: Sparsify, job: Job) -> Outcome:
    """Draw masks from the step's seed, train under them, and keep them beside the model.

    Raises:
        RunError: the model was trained under other masks, or as `fit`.
    """
    model, start = _begin(body, job)
    shapes = layout(hf_config(model.architecture, model.vocab, model.context))
    tensors = as_tensors(draw_masks(body.method, shapes, job.step.seed))
    _check_earlier(body, job, tensors)
    outcome = fit(job, body, model, start=start, masks=tensors)
    save_tensors(job.out / MASKS, tensors)
    masks = read_masks(job.out, shapes)
    escaped = count_escaped(job.out, masks)
    if escaped:
        raise RunError(
            f"{escaped} masked weights are not zero after training",
            "This is a fault of graftwork; please report it with the spec.",
        )
    return _account(job, model, count_held(masks), outcome)


def _begin(body: Sparsify, job: Job) -> tuple[Decoder, Start]:
    if body.model is not None:
        shards = TokenShards.open(job.artifact("data").tokens)
        model = Decoder(body.model, shards.vocab, shards.context, seed=job.step.seed)
        return model, Start()
    folder = job.artifact("from").path
    return load_model(folder), Start(load_card(folder).cursor)


def _check_earlier(body: Sparsify, job: Job, drawn: Mapping[str, Tensor]) -> None:
    """A sparse model is trained on under its own masks; the same seed draws the same ones."""
    if body.from_ is None:
        return
    folder = job.artifact("from").path
    if not (folder / MASKS).is_file():
        return
    earlier = load_tensors(folder / MASKS)
    if set(earlier) != set(drawn) or any(not earlier[n].equal(drawn[n]) for n in drawn):
        raise RunError(
            f"{folder} is a sparse model with other masks than this stage draws",
            "Give this stage the same method and sparsity, or put a densify stage before it.",
        )


def _account(job: Job, model: Decoder, held: int, outcome: Outcome) -> Outcome:
    linear, total = model.architecture.linear_parameters(), model.parameter_count()
    context = job.step.work.context if job.step.work else model.context
    dense = model.architecture.flops_per_token(model.vocab, context)
    cost = outcome.flops / outcome.tokens
    rows = [
        ["weights held at zero", format_number(held)],
        ["of the blocks' linear weights", f"{held / linear:.1%}"],
        ["of all parameters", f"{held / total:.1%}"],
        [
            "training FLOPs a token, masked weights not counted",
            format_number(cost),
        ],
        ["the same for the dense model", format_number(dense)],
    ]
    note = (
        "FLOPs count unmasked weights only. This machine multiplies with the zeros as well, so the "
        "saving is one of hardware that can skip them."
    )
    table = {"title": "Sparsity", "columns": ["", ""], "rows": rows}
    extend_summary(job.out, tables=[table], notes=[note])
    measured = {"density": 1 - held / linear, "masked_parameters": float(held)}
    return replace(outcome, metrics={**outcome.metrics, **measured}, notes=(*outcome.notes, note))
