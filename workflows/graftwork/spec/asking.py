"""Whether an objective fits the model, the tokenizer and the method of the stage that names it.

Findings are pairs of the key's path in the stage and a message, `what is wrong; what to do`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graftwork.spec.base import Path
from graftwork.spec.model import Architecture
from graftwork.spec.objective import AnyTokenizer
from graftwork.spec.stages import Continue, Training

Found = Iterator[tuple[Path, str]]


def objective_problems(
    body: Training, architecture: Architecture | None, tokenizer: AnyTokenizer | None
) -> Found:
    """What is wrong with what a stage asks of its model, where both are known."""
    asked, key = body.objective, ("objective",)
    unfit = list(asked.problems(architecture)) if architecture is not None else []
    # Who wrote no objective may have meant another model.
    written = "objective" in body.model_fields_set or getattr(body, "model", None) is None
    yield from ((key if written else ("model", "kind"), message) for message in unfit)
    if tokenizer is not None and not unfit:
        yield from ((key, message) for message in asked.token_problems(tokenizer))
    method = body.method if isinstance(body, Continue) else None
    if method is not None and asked.name not in method.objectives:
        known = " or ".join(method.objectives)
        yield (
            key,
            f"{method.name} goes on with the objective {known}, and this is {asked.name}; take "
            f"'method' out, or go on with a model of the other kind",
        )
