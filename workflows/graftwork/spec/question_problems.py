"""Whether what is asked of models can be: signs of latents are known, arms are asked alike.

Messages are written as `what is wrong; what to do`.
"""

from __future__ import annotations

from collections.abc import Iterator

from graftwork.spec.base import Path
from graftwork.spec.data import TokenizerFile, TokenizerFrom
from graftwork.spec.graph import product_of, tokenizer_stage, tokens_of
from graftwork.spec.latents import SIGNS, Bolt
from graftwork.spec.stages import Compare, Evaluate, Prepare, StageBody
from graftwork.spec.synthesis import Synthesize
from graftwork.spec.workflow import Workflow

Found = Iterator[tuple[Path, str]]


_OF_METRIC = {"exact_match": "exact_match", "bound": "latents"}


def question_problems(workflow: Workflow, body: StageBody) -> Found:
    """Tokens with latents need the signs, and so do models that are to think.

    Arms that are compared by what they were asked must have been, and by a bound, the same.
    """
    if isinstance(body, Compare) and body.metric in _OF_METRIC:
        yield from _arms(workflow, body, _OF_METRIC[body.metric])
    if isinstance(body, Prepare) and any(_has_latents(workflow, name) for name in body.from_):
        yield from _missing(_signs(workflow, body), ("tokenizer",), "these documents hold latents")
    if isinstance(body, Synthesize) and body.thinks:
        writer = getattr(body.writer, "from_", "")
        known = _signs_of_model(workflow, writer)
        yield from _missing(known, ("writer", "from"), f"the model {writer!r} is to sample latents")
    if isinstance(body, Evaluate) and body.latents is not None and body.latents.samples:
        known = _signs_of_model(workflow, body.from_)
        yield from _missing(known, ("from",), f"the model {body.from_!r} is to think first")


def _arms(workflow: Workflow, body: Compare, field: str) -> Found:
    measured: dict[str, object] = {}
    for label, target in body.arms.items():
        arm = workflow.stages[target].body
        asked = getattr(arm, field, None)
        if not isinstance(arm, Evaluate):
            # That such a stage measures nothing of the kind is reported with its kind.
            return
        if asked is None:
            yield (
                ("arms", label),
                f"{target!r} measures no {body.metric}, since it asks nothing; give it "
                f"'{field}: {{from: ...}}'",
            )
        elif field == "latents":
            alike = asked.model_dump(include={"from_", "unit", "ends", "prefix", "given"})
            alike["documents"], alike["signs"] = (
                asked.documents,
                tokenizer_stage(workflow, arm.data),
            )
            measured[target] = alike
    (first, one), *others = measured.items() or (("", None),)
    for target, other in others:
        if other != one:
            yield (
                ("arms",),
                f"{first!r} and {target!r} measure {body.metric} of different pieces, or in "
                f"different tokens; give their 'latents' the same documents, cut alike, and both "
                f"one tokenizer",
            )


def _missing(known: frozenset[str] | None, path: Path, what: str) -> Found:
    missing = [] if known is None else [sign for sign in SIGNS if sign not in known]
    if missing:
        listed = ", ".join(f"'{sign}'" for sign in SIGNS)
        yield (
            path,
            f"{what}, and its tokenizer does not know {missing[0]!r} as one token; write "
            f"'tokens: [{listed}]' in the tokenizer of the first prepare stage",
        )


def _has_latents(workflow: Workflow, name: str) -> bool:
    stage = workflow.stages.get(name)
    if stage is None:
        return False
    body = stage.body
    if isinstance(body, Synthesize) and isinstance(body.method, Bolt):
        return True
    # What is chosen from documents holds what they hold.
    return body.kind == "select" and any(
        _has_latents(workflow, source) for source in getattr(body, "from_", ())
    )


def _signs_of_model(workflow: Workflow, model: str) -> frozenset[str] | None:
    body = workflow.stages[tokens_of(workflow, model)].body
    return _signs(workflow, body) if isinstance(body, Prepare) else None


def _signs(workflow: Workflow, body: Prepare) -> frozenset[str] | None:
    """Signs that a tokenizer takes as one token; None where only its file tells."""
    own = frozenset(body.tokenizer.tokens)
    if isinstance(body.tokenizer, TokenizerFile):
        return own if own.issuperset(SIGNS) else None
    if not isinstance(body.tokenizer, TokenizerFrom):
        return own
    named = body.tokenizer.from_
    if product_of(workflow, named) == "model":
        named = tokens_of(workflow, named)
    before = workflow.stages[named].body
    taken = _signs(workflow, before) if isinstance(before, Prepare) else None
    return None if taken is None and not own.issuperset(SIGNS) else own | (taken or frozenset())
