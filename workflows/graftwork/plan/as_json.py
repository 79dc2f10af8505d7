"""A plan as plain data for machines.

The keys are stable: new ones may come, none goes or changes its meaning within a version of the
format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graftwork.plan.model import Plan, PlannedStep
from graftwork.plan.status import Status

FORMAT = 1


def plan_as_json(plan: Plan, states: Mapping[str, Status] | None = None) -> dict[str, Any]:
    """The plan with these keys.

    `format`, `workflow`, `title`; `steps`, in an order in which they can run; `notes` with
    `step`, `level` (`note` or `warning`) and `text`; and `totals` with `steps`, `done`, `tokens`
    and `flops` of all steps, null where a budget is not known before data is prepared.

    Every step has `name`, `stage`, `kind`, `method` (empty where there is none), `seed`,
    `fingerprint`, `uri`, `inputs` (`role`, `step`, `uri`), `after`, `when`, `pool`, `steps`
    (optimizer steps), `epochs`, `batch` (sequences), `context`, `parameters`,
    `active_parameters`, `tokens`, `flops`, `total_tokens` and `total_flops` (with all ancestors,
    each counted once), `memory` (bytes on one worker) and `status`.
    """
    names = {(p.step.stage, p.step.seed): p.step.name for p in plan.steps}
    return {
        "format": FORMAT,
        "workflow": plan.workflow,
        "title": plan.title,
        "steps": [_step(planned, names, states or {}) for planned in plan.steps],
        "notes": [
            {"step": note.step, "level": note.level, "text": note.text} for note in plan.notes
        ],
        "totals": _totals(plan, states or {}),
    }


def _step(
    planned: PlannedStep, names: Mapping[tuple[str, int], str], states: Mapping[str, Status]
) -> dict[str, Any]:
    step, cost, work = planned.step, planned.cost, planned.step.work
    return {
        "name": step.name,
        "stage": step.stage,
        "kind": step.spec.kind,
        "method": method_name(planned),
        "seed": step.seed,
        "fingerprint": step.fingerprint,
        "uri": step.uri,
        "inputs": [
            {
                "role": source.role,
                "step": names[source.stage, source.seed],
                "uri": step.input_uri(source),
            }
            for source in step.inputs
        ],
        "after": list(planned.after),
        "when": step.spec.when.text if step.spec.when else None,
        "pool": step.spec.body.pool,
        "steps": work.steps if work else None,
        "epochs": work.epochs if work else None,
        "batch": work.sequences if work else None,
        "context": work.context if work else None,
        "parameters": cost.parameters,
        "active_parameters": cost.active_parameters,
        "tokens": cost.tokens,
        "flops": cost.flops,
        "total_tokens": cost.total_tokens,
        "total_flops": cost.total_flops,
        "memory": cost.memory,
        "status": states.get(step.name, "unknown"),
    }


def _totals(plan: Plan, states: Mapping[str, Status]) -> dict[str, Any]:
    tokens = [planned.cost.tokens for planned in plan.steps]
    flops = [planned.cost.flops for planned in plan.steps]
    return {
        "steps": len(plan.steps),
        "done": sum(state == "done" for state in states.values()),
        "tokens": None if None in tokens else sum(n for n in tokens if n),
        "flops": None if None in flops else sum(n for n in flops if n),
    }


def method_name(planned: PlannedStep) -> str:
    """The name of a step's method, as in the spec; empty where its kind has none."""
    method = getattr(planned.step.spec.body, "method", None)
    return str(method.name) if method is not None else ""
