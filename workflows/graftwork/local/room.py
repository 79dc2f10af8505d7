"""Whether the trainings of a workflow fit into this machine's memory."""

from __future__ import annotations

import os

from graftwork.plan.model import Note, Plan
from graftwork.spec.stages import Training
from graftwork.units import format_bytes


def memory_of_machine() -> int:
    """Bytes of main memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def too_large(plan: Plan, memory: int) -> list[Note]:
    """A warning for each stage whose training, over all its workers, takes more than `memory`.

    Stages on accelerators are left out, since their weights lie elsewhere. A system that runs out
    of memory ends some process without a word, so this is told beforehand.
    """
    notes: dict[str, Note] = {}
    for planned in plan.steps:
        step = planned.step
        if not isinstance(step.spec.body, Training) or step.pool.gpus_per_worker:
            continue
        total = planned.cost.memory * step.pool.workers
        if total > memory and step.stage not in notes:
            text = (
                f"training takes about {format_bytes(total)}, and this machine has "
                f"{format_bytes(memory)}; use a smaller model, or run it on a cluster"
            )
            notes[step.stage] = Note(step.name, "warning", text)
    return list(notes.values())
