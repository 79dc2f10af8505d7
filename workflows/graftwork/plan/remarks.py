"""What a user should know about a plan although nothing is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graftwork.plan import passes, savings
from graftwork.plan.bill import described
from graftwork.plan.memory import room
from graftwork.plan.model import Note, PlannedStep
from graftwork.plan.timing import (
    FEWEST,
    FROM_PARAMETERS,
    MOST,
    TO_PARAMETERS,
    growth_factor,
    growth_timing,
)
from graftwork.spec.graph import source_of, sources_of
from graftwork.spec.growth import Gbnn, GStack
from graftwork.spec.stages import Continue, Grow, Training
from graftwork.spec.synthesis import Synthesize
from graftwork.spec.workflow import Workflow
from graftwork.spec.writers import Endpoint
from graftwork.units import format_bytes, format_number


def remarks(workflow: Workflow, steps: Sequence[PlannedStep]) -> list[Note]:
    """Notes and warnings, in the order of the steps; a stage's further seeds add none."""
    first = {planned.step.stage: planned for planned in reversed(steps)}
    notes: list[Note] = []
    for planned in steps:
        if planned is first[planned.step.stage]:
            notes.extend(_memory(planned))
            notes.extend(_timing(workflow, planned, first))
            notes.extend(_saving(workflow, planned))
            notes.extend(_writing(workflow, planned))
            notes.extend(_passing(workflow, planned))
            notes.extend(_iterating(workflow, planned))
            notes.extend(_headless(workflow, planned))
    return notes


def _memory(planned: PlannedStep) -> Iterator[Note]:
    """A pool whose workers hold less than training needs."""
    body, cost, limit = planned.step.spec.body, planned.cost, room(planned.step.pool)
    if not isinstance(body, Training) or limit is None or cost.memory <= limit:
        return
    smaller = "a smaller micro_batch, " if (body.micro_batch or 1) > 1 else ""
    if body.parallel.data == "ddp" and body.parallel.sharers(planned.step.pool.workers) > 1:
        smaller += "'parallel: {data: fsdp}', "
    if body.activation_checkpointing == "none":
        smaller += "'activation_checkpointing: full', "
    text = (
        f"training takes about {format_bytes(cost.memory)} on each worker, and the pool "
        f"{body.pool!r} has {format_bytes(limit)}; use {smaller}a smaller model or a pool with "
        f"more memory"
    )
    yield Note(planned.step.name, "warning", text)


def _writing(workflow: Workflow, planned: PlannedStep) -> Iterator[Note]:
    """What a synthesis asks of its writer, and its price."""
    body = planned.step.spec.body
    text = described(workflow, body) if isinstance(body, Synthesize) else None
    if text is not None and isinstance(body, Synthesize):
        paid = isinstance(body.writer, Endpoint)
        yield Note(planned.step.name, "cost" if paid else "note", text)


def _passing(workflow: Workflow, planned: PlannedStep) -> Iterator[Note]:
    """What models cost that only read or write."""
    text = passes.described(workflow, planned.step.spec.body)
    if text is not None:
        yield Note(planned.step.name, "note", text)


def _iterating(workflow: Workflow, planned: PlannedStep) -> Iterator[Note]:
    """An M-step that goes on from the model that sampled, where BoLT begins at the base again."""
    body = planned.step.spec.body
    if not isinstance(body, Continue):
        return
    for source in getattr(workflow.stages[body.data].body, "from_", ()):
        made = workflow.stages[source].body if source in workflow.stages else None
        if isinstance(made, Synthesize) and made.thinks:
            writer = getattr(made.writer, "from_", None)
            if writer == body.from_:
                text = (
                    f"this goes on from {writer!r}, which sampled the latents of {source!r}; BoLT "
                    f"trains the base model on them, anew in each iteration: name that in 'from'"
                )
                yield Note(planned.step.name, "warning", text)


def _headless(workflow: Workflow, planned: PlannedStep) -> Iterator[Note]:
    """A model that is changed after a head was grown for it as it was."""
    body = planned.step.spec.body
    for source in sources_of(body):
        before = workflow.stages[source].body
        if isinstance(before, Grow) and isinstance(before.method, Gbnn):
            text = (
                f"the head that {source!r} has grown fits its model as it is there, and is left "
                f"behind here; grow one last"
            )
            yield Note(planned.step.name, "warning", text)


def _saving(workflow: Workflow, planned: PlannedStep) -> Iterator[Note]:
    """What making the model in stages saves."""
    text = savings.described(workflow, planned)
    if text is not None:
        yield Note(planned.step.name, "note", text)


def _timing(
    workflow: Workflow, planned: PlannedStep, first: dict[str, PlannedStep]
) -> Iterator[Note]:
    """For G_stack, how long the paper's fits would train the base, and how deep they would go."""
    body = planned.step.spec.body
    if not isinstance(body, Grow) or not isinstance(body.method, GStack):
        return
    if not FEWEST <= body.method.factor <= MOST:
        text = (
            f"a growth factor of {body.method.factor} is outside of what the paper finds best, "
            f"{FEWEST} to {MOST}"
        )
        yield Note(planned.step.name, "warning", text)
    later = [
        first[name].cost.tokens or 0
        for name, stage in workflow.stages.items()
        if source_of(stage.body) == planned.step.stage and isinstance(stage.body, Training)
    ]
    own = planned.cost.total_tokens
    if not later or not max(later) or own is None:
        return
    tokens = max(later)
    timing = growth_timing(planned.cost.parameters, tokens)
    text = (
        f"by the paper's fit the base would train for {format_number(timing.fitted)} tokens; "
        f"here it does for {format_number(own)}"
        + " and what its checkpoint had read"
        * savings.begins_elsewhere(workflow, body.from_)
    )
    if not timing.in_range:
        text += (
            f". The fit is for models of {format_number(FROM_PARAMETERS)} to "
            f"{format_number(TO_PARAMETERS)} parameters and says nothing at "
            f"{format_number(planned.cost.parameters)}"
        )
    if timing.clamped:
        text += (
            f". A tenth of the {format_number(tokens)} tokens that follow, "
            f"{format_number(timing.tokens)}, is about the paper's own share"
        )
    factor = growth_factor(planned.cost.parameters, tokens)
    text += f". Its fit for the factor gives {factor.fitted:.3g}"
    if factor.clamped != factor.fitted:
        text += f", which is outside of what it finds best, {FEWEST} to {MOST}"
    far = timing.clamped or not timing.in_range
    yield Note(planned.step.name, "warning" if far else "note", text)
