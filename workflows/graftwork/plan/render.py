"""A plan as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from graftwork.plan.as_json import method_name
from graftwork.plan.model import Plan, PlannedStep
from graftwork.plan.status import Status
from graftwork.units import format_bytes, format_number

_STYLES = {"done": "green", "to do": "bold", "unknown": "yellow"}


def plan_as_table(plan: Plan, states: Mapping[str, Status] | None = None) -> RenderableType:
    """Every step with its size and cost, and the plan's notes below."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_footer=True)
    table.add_column("step", footer=_count(len(plan.steps)), no_wrap=True)
    table.add_column("what")
    for title in ("parameters", "tokens", "FLOPs", "with ancestors", "memory"):
        table.add_column(title, justify="right", footer=_footer(plan, title), no_wrap=True)
    table.add_column("fingerprint", no_wrap=True)
    if states is not None:
        done = sum(state == "done" for state in states.values())
        table.add_column("status", footer=f"{done} done", no_wrap=True)
    for planned in plan.steps:
        table.add_row(*_row(planned, states))
    notes = [_note(note.step, note.level, note.text) for note in plan.notes]
    return Group(table, *([Text(), *notes] if notes else []))


def _row(planned: PlannedStep, states: Mapping[str, Status] | None) -> list[Text | str]:
    step, cost = planned.step, planned.cost
    what = " ".join(part for part in (step.spec.kind, method_name(planned)) if part)
    if step.spec.when:
        what += f", when {step.spec.when.text}"
    row: list[Text | str] = [
        step.name,
        what,
        _parameters(planned),
        _amount(cost.tokens, planned),
        _amount(cost.flops, planned),
        format_number(cost.total_flops) if cost.total_flops else "",
        format_bytes(cost.memory) if cost.memory else "",
        step.fingerprint[:12],
    ]
    if states is not None:
        state = states.get(step.name, "unknown")
        row.append(Text(state, style=_STYLES[state]))
    return row


def _parameters(planned: PlannedStep) -> str:
    cost = planned.cost
    if not cost.parameters:
        return ""
    text = format_number(cost.parameters)
    if cost.active_parameters < cost.parameters:
        text += f" ({format_number(cost.active_parameters)} active)"
    return text


def _amount(value: float | None, planned: PlannedStep) -> str:
    if value is None:
        work = planned.step.work
        return f"{work.epochs:g} epochs" if work and work.epochs else "?"
    return format_number(value) if value else ""


def _footer(plan: Plan, title: str) -> str:
    if title not in ("tokens", "FLOPs"):
        return ""
    costs = [planned.cost for planned in plan.steps]
    values = [cost.tokens if title == "tokens" else cost.flops for cost in costs]
    text = format_number(sum(value for value in values if value))
    return f"{text} + ?" if None in values else text


def _note(step: str, level: str, text: str) -> Text:
    style = "yellow" if level == "warning" else "dim"
    return Text.assemble((f"{level}: {step}: ", style), text)


def _count(steps: int) -> str:
    return f"{steps} step{'' if steps == 1 else 's'}"
