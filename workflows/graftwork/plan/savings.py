"""What a model made in stages saves against the same model trained from scratch, by arithmetic.

AquilaMoE, arXiv:2408.06567, counts its saving so: the FLOPs of the way that was gone, against those
of training the last model from scratch on all tokens that the way has read.
"""

from __future__ import annotations

from collections.abc import Iterator

from graftwork.plan.model import PlannedStep
from graftwork.plan.work import models
from graftwork.spec.graph import source_of
from graftwork.spec.pretrained import Pretrained
from graftwork.spec.stages import Continue, Grow, StageBody, Upcycle
from graftwork.spec.workflow import Workflow
from graftwork.units import format_number


def saving(tokens: float, flops: float, each: float) -> float:
    """How many times the FLOPs spent the training from scratch would take.

    Args:
        tokens: That all stages on the way have trained on.
        flops: That they have spent.
        each: Training FLOPs of the last model for one token.
    """
    return tokens * each / flops


def described(workflow: Workflow, planned: PlannedStep) -> str | None:
    """The saving of a model that was grown or upcycled on the way, in words; else None.

    None, too, where the way begins with a checkpoint whose cost is not known.
    """
    body, cost = planned.step.spec.body, planned.cost
    way = list(_way(workflow, planned.step.stage))
    if not isinstance(body, Continue) or not any(isinstance(b, Grow | Upcycle) for b in way):
        return None
    if begins_elsewhere(workflow, planned.step.stage):
        return None
    if not cost.total_tokens or not cost.total_flops:
        return None
    model = models(workflow)[planned.step.stage]
    each = model.architecture.flops_per_token(model.vocab, model.context)
    factor = saving(cost.total_tokens, cost.total_flops, each)
    return (
        f"this model and all that it is made from take {format_number(cost.total_flops)} FLOPs; "
        f"from scratch, on all of their {format_number(cost.total_tokens)} tokens, it would take "
        f"{factor:.2f} times as many"
    )


def begins_elsewhere(workflow: Workflow, stage: str) -> bool:
    """Whether the model was made of a checkpoint that was there already."""
    return any(isinstance(body, Pretrained) for body in _way(workflow, stage))


def _way(workflow: Workflow, stage: str) -> Iterator[StageBody]:
    """The stage and those that its model has gone through, backwards."""
    name: str | None = stage
    while name is not None:
        body = workflow.stages[name].body
        yield body
        name = source_of(body)
