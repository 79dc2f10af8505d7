"""Whether stages that work by a prompt fit what they are given.

Findings are pairs of the key's path in the stage and a message, `what is wrong; what to do`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graftwork.spec.base import Path
from graftwork.spec.continuing import PromptTuning
from graftwork.spec.model import Architecture
from graftwork.spec.stages import Continue, StageBody
from graftwork.spec.synthesis import Synthesize
from graftwork.spec.workflow import Workflow
from graftwork.spec.writers import Classifier

Found = Iterator[tuple[Path, str]]


def prompt_problems(
    workflow: Workflow, body: StageBody, architecture: Architecture | None
) -> Found:
    """What is wrong with a stage that tunes by a prompt, or labels by a model tuned so."""
    if isinstance(body, Synthesize) and isinstance(body.writer, Classifier):
        yield from _writer(workflow, body.writer)
    if isinstance(body, Continue) and isinstance(body.method, PromptTuning):
        yield from _tuned(body, body.method, architecture)


def _writer(workflow: Workflow, writer: Classifier) -> Found:
    before = workflow.stages[writer.from_].body
    if isinstance(before, Continue) and isinstance(before.method, PromptTuning):
        return
    tuned = [
        name
        for name, stage in workflow.stages.items()
        if isinstance(getattr(stage.body, "method", None), PromptTuning)
    ]
    listed = f"name one of: {', '.join(tuned)}" if tuned else "add a stage with that method"
    yield (
        ("writer", "from"),
        f"{writer.from_!r} was not tuned by a prompt, as 'continue' does by the method "
        f"prompt_tuning; {listed}",
    )


def _tuned(body: Continue, method: PromptTuning, architecture: Architecture | None) -> Found:
    if body.budget.unit == "epochs":
        yield (
            ("budget",),
            f"{method.name} reads none of the sequences that epochs are counted in; give a budget "
            f"in steps",
        )
    if architecture is None or architecture.kind == "encoder":
        return
    places = [part.place for part in method.prompt.parts() if part.place]
    if places[-1] != "label":
        yield (
            ("method", "prompt"),
            f"a decoder sees what is before the label, and {{{places[-1]}}} stands behind it; put "
            f"{{label}} last, or tune an encoder",
        )
