"""`densify`: free a sparse model's weights and train all of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from graftwork.errors import RunError
from graftwork.spec.stages import Densify
from graftwork.units import format_number
from graftwork_train.job import Job, Outcome
from graftwork_train.loop.fit import fit
from graftwork_train.loop.plan import Start
from graftwork_train.nn import Decoder, load_model
from graftwork_train.nn.hf import Tensors, load_card
from graftwork_train.sparsity import FACTORS, masks_of, read_form
from graftwork_train.sparsity._compose import low_rank_entries
from graftwork_train.sparsity.base import linear_weights
from graftwork_train.stages.base import drawn, perform
from graftwork_train.summary import extend_summary


@perform.register
def densify(body: Densify, job: Job) -> Outcome:
    """Train on without masks or factors; the optimizer begins without moments.

    That changes nothing by itself: masked weights begin at zero, factored ones multiplied out, so
    training begins with the sparse model's loss.

    Raises:
        RunError: the model in `from` is not sparse, or its weights are not what its masks or
            factors say; or as `fit`.
    """
    job = drawn(job, body)
    folder = job.artifact("from").path
    model = load_model(folder)
    bound = _bound(model, folder)
    before = {name: model.get_parameter(name).detach()[places] for name, places in bound.items()}
    start = Start(load_card(folder).cursor)
    outcome = fit(job, body, model, start=start)
    held = max(1, sum(int(places.sum()) for places in bound.values()))
    revived = sum(
        int(torch.count_nonzero(model.get_parameter(name).detach()[places] != before[name]))
        for name, places in bound.items()
    )
    rows = [
        ["weights that were held", format_number(held)],
        ["of them changed by training", f"{revived / held:.1%}"],
    ]
    table = {"title": "Freeing the weights", "columns": ["", ""], "rows": rows}
    extend_summary(job.out, tables=[table])
    return replace(outcome, metrics={**outcome.metrics, "revived": revived / held})


def _bound(model: Decoder, folder: Path) -> Tensors:
    """By parameter, where its entries were not free: masked, or given by a low-rank product."""
    form = read_form(folder)
    if not form:
        raise RunError(
            f"{folder} has no masks and no factors, so the model is dense already",
            "Name a sparsify stage in 'from'.",
        )
    if FACTORS in form:
        return low_rank_entries(form[FACTORS], dict(linear_weights(model)))
    masks = masks_of(model, form)
    bound = {name: ~mask for name, mask in masks.items()}
    escaped = sum(_nonzero(model, name, places) for name, places in bound.items())
    if escaped:
        raise RunError(
            f"{folder}: {escaped} weights are not zero where the masks say so",
            "Build the sparse model again; weights and masks belong to different models.",
        )
    return bound


def _nonzero(model: Decoder, name: str, places: Tensor) -> int:
    return int(torch.count_nonzero(model.get_parameter(name).detach()[places]))
