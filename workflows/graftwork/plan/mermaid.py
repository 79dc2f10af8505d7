"""A plan as a Mermaid graph, which many Markdown viewers draw."""

from __future__ import annotations

from graftwork.plan.as_json import method_name
from graftwork.plan.model import Plan, PlannedStep

# Shapes by what a stage makes: data as cylinders, models as boxes, findings as hexagons.
_SHAPES = {
    "documents": ("[(", ")]"),
    "tokens": ("[(", ")]"),
    "model": ("[", "]"),
    "evaluation": ("{{", "}}"),
    "verdict": ("{{", "}}"),
}


def plan_as_mermaid(plan: Plan) -> str:
    """The steps and their corpora; a dotted arrow is a condition, not an input."""
    lines = ["flowchart TD"]
    corpora = dict.fromkeys(name for planned in plan.steps for name in planned.step.corpora)
    lines += [f"  {_id('corpus', name)}([{name}])" for name in corpora]
    names = {(p.step.stage, p.step.seed): p.step.name for p in plan.steps}
    for planned in plan.steps:
        lines.append(_node(planned))
    for planned in plan.steps:
        lines += _arrows(planned, names)
    return "\n".join(lines) + "\n"


def _node(planned: PlannedStep) -> str:
    step = planned.step
    left, right = _SHAPES[step.spec.body.product]
    what = " ".join(part for part in (step.spec.kind, method_name(planned)) if part)
    return f'  {_id("step", step.name)}{left}"{step.name}<br/><small>{what}</small>"{right}'


def _arrows(planned: PlannedStep, names: dict[tuple[str, int], str]) -> list[str]:
    step = planned.step
    here = _id("step", step.name)
    lines = [f"  {_id('corpus', name)} --> {here}" for name in step.corpora]
    sources = dict.fromkeys(names[source.stage, source.seed] for source in step.inputs)
    lines += [f"  {_id('step', source)} --> {here}" for source in sources]
    if step.condition is not None and step.spec.when is not None:
        condition = _id("step", names[step.condition.stage, step.condition.seed])
        text = step.spec.when.text.replace("<", "#lt;").replace(">", "#gt;")
        lines.append(f'  {condition} -. "{text}" .-> {here}')
    return lines


def _id(kind: str, name: str) -> str:
    # A prefix, because Mermaid has reserved words, such as `end`.
    return f"{kind}-{name}"
