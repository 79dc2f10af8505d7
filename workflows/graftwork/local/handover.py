"""What the run hands to its worker, and what comes back: files in the run's folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from graftwork.plan import Cost, Plan, PlannedStep
from graftwork.spec.resources import Execution
from graftwork.step import Step

PLAN = "plan.json"
IR = "pipeline.ir.yaml"
ERROR = "error.txt"
KFP = "kfp"


def write_plan(folder: Path, plan: Plan, names: Sequence[str]) -> None:
    """Hand over those steps of the plan that are named; the others are done.

    Without retries: whoever waits on this machine would rather see why a stage has failed.
    """
    execution = plan.execution.model_copy(update={"retries": 0})
    data = {
        "workflow": plan.workflow,
        "title": plan.title,
        "execution": execution.model_dump(mode="json"),
        "steps": [
            {"step": plan[name].step.dumps(), "after": [a for a in plan[name].after if a in names]}
            for name in names
        ],
    }
    (folder / PLAN).write_text(json.dumps(data), encoding="utf-8")


def read_plan(folder: Path) -> Plan:
    """The plan that was handed over; costs do not travel."""
    data = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    steps = tuple(
        PlannedStep(Step.loads(one["step"]), tuple(one["after"]), Cost()) for one in data["steps"]
    )
    execution = Execution.model_validate(data["execution"])
    return Plan(data["workflow"], data["title"], execution, steps)
