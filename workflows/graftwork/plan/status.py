"""Which steps of a plan are done already."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from graftwork.artifact import Record
from graftwork.plan.model import Plan
from graftwork.step import Step

Status = Literal["done", "to do", "unknown"]


def status(plan: Plan, is_current: Callable[[Step], Record | None]) -> Mapping[str, Status]:
    """By step's name, whether its artifact is there, whole and made from what is there now.

    `unknown` is a step whose artifact is there while something before it has to be made again:
    only then does it turn out whether this one has to be, too. A step with a condition that has
    not been met yet is `unknown` as well, since it may be left out.

    Args:
        plan: The plan.
        is_current: Gives a step's record if its artifact is current; `Store.is_current` does.
    """
    found: dict[str, Status] = {}
    for planned in plan.steps:
        settled = all(found[name] == "done" for name in planned.after)
        if is_current(planned.step) is not None:
            found[planned.step.name] = "done" if settled else "unknown"
        else:
            conditional = planned.step.spec.when is not None
            found[planned.step.name] = "unknown" if conditional else "to do"
    return found
