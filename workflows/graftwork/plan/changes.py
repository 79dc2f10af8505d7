"""What differs between two plans, step by step: what is made anew, and why. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from graftwork.plan.model import Cost, Plan, PlannedStep
from graftwork.step import Step

Kind = Literal["added", "removed", "changed", "remade", "moved", "same"]
Key = tuple[str, str, str]

# Parts of a step's JSON that say the same of every step of a workflow.
_SHARED = ("storage", "execution")
# What follows from the rest: names, and what inputs are.
_DERIVED = ("workflow", "name", "stage", "inputs", "condition", "fingerprint", *_SHARED)
_ABSENT = "–"


@dataclass(frozen=True, slots=True)
class Change:
    """How a step differs.

    Attributes:
        name: The step's.
        stage: What kind of stage it is.
        kind: `added`, `removed`; `changed`: it is asked to make something else; `remade`: it is
            the same, and what it is made from is not; `moved`: it makes the same, elsewhere or
            otherwise; `same`.
        keys: What differs in the step itself: key, before, after.
        before: What it cost, None for a new one.
        after: What it will cost, None for one that is gone.
    """

    name: str
    stage: str
    kind: Kind
    keys: tuple[Key, ...]
    before: Cost | None
    after: Cost | None


@dataclass(frozen=True, slots=True)
class Changes:
    """How a plan differs: what concerns all steps, and each step in the new plan's order."""

    shared: tuple[Key, ...]
    steps: tuple[Change, ...]


def changes(old: Plan | None, new: Plan | None) -> Changes:
    """What the new plan has that the old one has not, and the other way round.

    Args:
        old: None where there was no spec.
        new: None where there is none any more.
    """
    before, after = _steps(old), _steps(new)
    names = [*after, *(name for name in before if name not in after)]
    shared = _differing(_flat_shared(before), _flat_shared(after)) if before and after else ()
    return Changes(shared, tuple(_change(before.get(name), after.get(name)) for name in names))


def _steps(plan: Plan | None) -> dict[str, PlannedStep]:
    return {planned.step.name: planned for planned in plan.steps} if plan else {}


def _change(old: PlannedStep | None, new: PlannedStep | None) -> Change:
    one = new or old
    if one is None:
        raise AssertionError("a step of neither plan")
    keys = _differing(_flat_own(old.step), _flat_own(new.step)) if old and new else ()
    return Change(
        one.step.name,
        one.step.spec.kind,
        _kind(old, new, keys),
        keys,
        old.cost if old else None,
        new.cost if new else None,
    )


def _kind(old: PlannedStep | None, new: PlannedStep | None, keys: tuple[Key, ...]) -> Kind:
    if old is None or new is None:
        return "added" if old is None else "removed"
    if old.step.fingerprint == new.step.fingerprint:
        return "moved" if keys else "same"
    return "changed" if keys else "remade"


def _flat_own(step: Step) -> dict[str, str]:
    whole = json.loads(step.dumps())
    own = {key: value for key, value in whole.items() if key not in _DERIVED}
    return flat({**own.pop("spec"), **own})


def _flat_shared(steps: Mapping[str, PlannedStep]) -> dict[str, str]:
    first = next(iter(steps.values())).step
    whole = json.loads(first.dumps())
    return flat({key: value for key, value in whole.items() if key in _SHARED})


def flat(value: Any, key: str = "") -> dict[str, str]:  # noqa: ANN401 - JSON
    """JSON as dotted keys with their values as text; lists of plain values are one value."""
    if isinstance(value, dict):
        pairs = value.items()
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        pairs = {str(i): item for i, item in enumerate(value)}.items()
    else:
        return {key: value if isinstance(value, str) else json.dumps(value)}
    found: dict[str, str] = {}
    for name, item in pairs:
        found |= flat(item, f"{key}.{name}" if key else name)
    return found


def _differing(old: dict[str, str], new: dict[str, str]) -> tuple[Key, ...]:
    keys = [*new, *(key for key in old if key not in new)]
    return tuple(
        (key, old.get(key, _ABSENT), new.get(key, _ABSENT))
        for key in keys
        if old.get(key) != new.get(key)
    )
