"""Whether a model can be trained on the sequences that a stage gives it.

Findings are pairs of the key's path in the stage and a message, `what is wrong; what to do`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graftwork.spec.base import Path
from graftwork.spec.model import Architecture
from graftwork.spec.stages import Training


def model_problems(
    body: Training, architecture: Architecture | None, context: int
) -> Iterator[tuple[Path, str]]:
    """What is wrong with training this model on sequences of `context` tokens."""
    if architecture is not None and body.parametrisation is not None:
        for message in body.parametrisation.problems(architecture):
            yield ("parametrisation",), message
    if architecture is None or getattr(body, "model", None) is None:
        return
    rows = architecture.max_positions
    if rows is not None and rows < context:
        yield (
            ("model", "max_positions"),
            f"sequences of {body.data!r} have {context} tokens, and the model has {rows} "
            f"positions; write at least {context}",
        )
