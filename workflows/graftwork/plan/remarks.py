"""What a user should know about a plan although nothing is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from graftwork.plan.model import Note, PlannedStep
from graftwork.plan.timing import growth_timing
from graftwork.spec.graph import source_of
from graftwork.spec.growth import GStack
from graftwork.spec.stages import Grow, Training
from graftwork.spec.workflow import Workflow
from graftwork.units import format_bytes, format_number


def remarks(workflow: Workflow, steps: Sequence[PlannedStep]) -> list[Note]:
    """Notes and warnings, in the order of the steps; a stage's further seeds add none."""
    first = {planned.step.stage: planned for planned in reversed(steps)}
    notes: list[Note] = []
    for planned in steps:
        if planned is first[planned.step.stage]:
            notes.extend(_memory(planned))
            notes.extend(_timing(workflow, planned, first))
    return notes


def _memory(planned: PlannedStep) -> Iterator[Note]:
    """A pool whose workers hold less than training needs.

    With accelerators the weights lie in their memory, which Kubernetes does not know of.
    """
    pool, body, cost = planned.step.pool, planned.step.spec.body, planned.cost
    room = pool.accelerator_memory if pool.gpus_per_worker else pool.memory
    if not isinstance(body, Training) or room is None or cost.memory <= room:
        return
    less = "" if body.micro_batch == 1 else ", set a smaller micro_batch"
    text = (
        f"training takes about {format_bytes(cost.memory)} on each worker, and the pool "
        f"{body.pool!r} has {format_bytes(room)}; take a larger one{less} or a smaller model"
    )
    yield Note(planned.step.name, "warning", text)


def _timing(
    workflow: Workflow, planned: PlannedStep, first: dict[str, PlannedStep]
) -> Iterator[Note]:
    """For G_stack, how long the paper's fit would train the base."""
    body = planned.step.spec.body
    if not isinstance(body, Grow) or not isinstance(body.method, GStack):
        return
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
    text = f"the paper's fit trains the base for {format_number(timing.fitted)} tokens"
    if timing.clamped:
        text += (
            f", more than a tenth of the {format_number(tokens)} that the stacked model trains "
            f"on; {format_number(timing.tokens)} would be a tenth"
        )
    if not timing.in_range:
        text += f"; the fit does not reach models of {format_number(planned.cost.parameters)}"
    yield Note(planned.step.name, "note", f"{text}. This base has seen {format_number(own)}.")
