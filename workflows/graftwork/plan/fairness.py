"""Whether the arms of a comparison cost the same, before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean

from graftwork.errors import Problem, SpecError, Where
from graftwork.plan.expand import Graph
from graftwork.plan.model import Cost, Note, PlannedStep
from graftwork.spec.stages import Compare
from graftwork.units import format_number

# Arms this close are most likely meant to be equal, and differ by the rounding to whole steps.
_ROUNDING = 0.1


def check_arms(graph: Graph, steps: Sequence[PlannedStep]) -> list[Note]:
    """Compare the planned compute of all arms, each as the mean over its seeds.

    Returns:
        A warning for each comparison where an arm's compute is not known yet.

    Raises:
        SpecError: arms lie further apart than the comparison's tolerance.
    """
    costs = {(planned.step.stage, planned.step.seed): planned.cost for planned in steps}
    notes: list[Note] = []
    problems: list[Problem] = []
    for planned in steps:
        body = planned.step.spec.body
        if isinstance(body, Compare) and body.at != "as_they_are":
            amounts = _amounts(planned, body, costs)
            unknown = sorted({arm for arm, amount in amounts if amount is None})
            if unknown:
                notes.append(_not_known(planned.step.name, body, unknown))
            else:
                problems.extend(_apart(planned.step.stage, body, amounts))
    if problems:
        raise SpecError(problems)
    return notes


def _amounts(
    planned: PlannedStep, body: Compare, costs: dict[tuple[str, int], Cost]
) -> list[tuple[str, float | None]]:
    """Every arm, for every seed: its label and its compute."""
    found = []
    for source in planned.step.inputs:
        cost = costs[source.stage, source.seed]
        amount = cost.total_flops if body.at == "equal_flops" else cost.total_tokens
        found.append((source.role.removeprefix("arms."), amount))
    return found


def _percent_above(share: float) -> int:
    return math.floor(100 * share) + 1


def _unit(body: Compare) -> str:
    return "FLOPs" if body.at == "equal_flops" else "tokens"


def _not_known(name: str, body: Compare, unknown: list[str]) -> Note:
    text = (
        f"whether the arms cost equal {_unit(body)} is not known before the data is prepared, "
        f"because a budget of {', '.join(unknown)} is in epochs"
    )
    return Note(name, "warning", text)


def _apart(stage: str, body: Compare, amounts: list[tuple[str, float | None]]) -> Iterator[Problem]:
    by_arm = {
        arm: fmean(amount or 0.0 for label, amount in amounts if label == arm) for arm in body.arms
    }
    most = max(by_arm, key=lambda label: by_arm[label])
    least = min(by_arm, key=lambda label: by_arm[label])
    if by_arm[most] - by_arm[least] <= body.tolerance * by_arm[most]:
        return
    unit = _unit(body)
    listed = ", ".join(f"{label} {format_number(amount)}" for label, amount in by_arm.items())
    what = (
        f"the arms are to be compared at equal {unit}, and with all they are made from they take "
        f"{listed} {unit}; that is further apart than the tolerance of {body.tolerance:.0%}"
    )
    share = (by_arm[most] - by_arm[least]) / by_arm[most]
    remedy = (
        # Where a whole step is more than the tolerance, no budget comes closer.
        f"If {least!r} has 'budget: flops of {body.arms[most]}' already, its steps are too few to "
        f"come closer: train longer, or write 'tolerance: {_percent_above(share)}%'."
        if share <= _ROUNDING and body.at == "equal_flops"
        else f"Give the last training of {least!r} 'budget: flops of {body.arms[most]}', or write "
        f"'at: as_they_are'."
        if body.at == "equal_flops"
        else f"Train {least!r} on more tokens, or write 'at: as_they_are'."
    )
    yield Problem(Where(key=f"stages.{stage}.compare.arms"), what, remedy)
