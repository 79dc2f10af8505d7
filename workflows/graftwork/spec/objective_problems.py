"""Whether an objective fits the model, the tokenizer and the method of the stage that names it.

Findings are pairs of the key's path in the stage and a message, `what is wrong; what to do`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graftwork.spec.base import Path
from graftwork.spec.continuing import Classify, Slca
from graftwork.spec.graph import tokenizer_stage
from graftwork.spec.model import Architecture
from graftwork.spec.stages import Continue, Prepare, StageBody, Training
from graftwork.spec.workflow import Workflow

Found = Iterator[tuple[Path, str]]


def objective_problems(
    workflow: Workflow, body: Training, architecture: Architecture | None
) -> Found:
    """What is wrong with what a stage asks of its model, where that is known."""
    asked, key = body.objective, ("objective",)
    method = body.method if isinstance(body, Continue) else None
    if method is not None and method.asks:
        if "objective" in body.model_fields_set:
            yield key, f"{method.name} asks for classes, not for tokens; take 'objective' out"
        return
    unfit = list(asked.problems(architecture)) if architecture is not None else []
    # Who wrote no objective may have meant another model.
    written = "objective" in body.model_fields_set or getattr(body, "model", None) is None
    yield from ((key if written else ("model", "kind"), message) for message in unfit)
    maker = workflow.stages[tokenizer_stage(workflow, body.data)].body
    if isinstance(maker, Prepare) and not unfit:
        yield from ((key, message) for message in asked.token_problems(maker.tokenizer))
    if method is not None and asked.name not in method.objectives:
        known = " or ".join(method.objectives)
        yield (
            key,
            f"{method.name} goes on with the objective {known}, and this is {asked.name}; take "
            f"'method' out, or go on with a model of the other kind",
        )


def classifier_problems(name: str, body: StageBody, path: Path) -> Found:
    """Whether a stage, of that name and named at that path, leaves a classifier."""
    method = body.method if isinstance(body, Continue) else None
    if not isinstance(method, Classify | Slca):
        yield (
            path,
            f"{name!r} has learned no classes; name a continue stage with 'method: "
            f"{{name: classify}}'",
        )
