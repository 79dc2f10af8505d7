"""The graph of a workflow: which stage needs which, in what order, and what models come out.

Pure functions of a valid `Workflow`, shared by the checks here and by the plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from graftwork.spec.base import Product, references
from graftwork.spec.data import TokenizerFrom
from graftwork.spec.family import check_expressible
from graftwork.spec.model import Architecture
from graftwork.spec.pretrained import Pretrained
from graftwork.spec.stages import (
    Continue,
    Densify,
    Grow,
    Merge,
    Prepare,
    Sparsify,
    StageBody,
    Train,
    Training,
    Upcycle,
)
from graftwork.spec.workflow import Workflow

Reason = Literal["input", "budget", "when"]


@dataclass(frozen=True, slots=True)
class Edge:
    """One stage needs another, or a corpus.

    Attributes:
        role: Dotted place of the reference in the stage: `from`, `from.0`, `arms.g_stack`;
            `budget` for `flops of STAGE`, `when` for a condition.
        target: Name of the stage or corpus.
        product: What the target makes; `corpus` for a corpus.
        reason: `input` if the artifact is read, `budget` if only its cost must be known, `when`
            if only its metrics are read.
    """

    role: str
    target: str
    product: Product
    reason: Reason = "input"


def edges(workflow: Workflow) -> dict[str, list[Edge]]:
    """For each stage, in the order of the spec, what it needs."""
    return {name: stage_edges(workflow, name) for name in workflow.stages}


def stage_edges(workflow: Workflow, name: str) -> list[Edge]:
    """What one stage needs: corpora and stages it reads, its budget's stage, its condition's."""
    stage = workflow.stages[name]
    found = [
        Edge(".".join(map(str, path)), target, product_of(workflow, target))
        for path, target, _ in references(stage.body)
    ]
    if isinstance(stage.body, Training) and stage.body.budget.unit == "flops_of":
        target = stage.body.budget.of
        found.append(Edge("budget", target, product_of(workflow, target), "budget"))
    if stage.when is not None:
        target = stage.when.stage
        found.append(Edge("when", target, product_of(workflow, target), "when"))
    return found


def product_of(workflow: Workflow, name: str) -> Product:
    """What a name stands for: a corpus, or what the stage makes.

    Raises:
        KeyError: there is no such corpus or stage.
    """
    if name in workflow.stages:
        return workflow.stages[name].body.product
    if name in workflow.corpora:
        return "corpus"
    raise KeyError(name)


def topological_order(workflow: Workflow) -> list[str]:
    """All stages, each after the ones it needs; otherwise in the order of the spec.

    Raises:
        ValueError: the stages wait for one another in a circle.
    """
    needs = {
        name: [edge.target for edge in found if edge.target in workflow.stages]
        for name, found in edges(workflow).items()
    }
    order, circles = sort(needs)
    if circles:
        raise ValueError(f"the stages wait for one another: {' -> '.join(circles[0])}")
    return order


def sort(needs: Mapping[str, Iterable[str]]) -> tuple[list[str], list[list[str]]]:
    """Names in topological order, and the circles among them (`[a, b, a]`), if there are any.

    Names in a circle, and those that wait for one, are not in the order.
    """
    order: list[str] = []
    circles: list[list[str]] = []
    done: dict[str, bool] = {}
    for root in needs:
        _visit(root, needs, done, order, circles)
    return order, circles


def _visit(
    root: str,
    needs: Mapping[str, Iterable[str]],
    done: dict[str, bool],
    order: list[str],
    circles: list[list[str]],
) -> None:
    """Depth first from `root`, without recursion: a spec may chain a thousand stages."""
    if root in done:
        return
    path = [root]
    waiting = [iter(needs[root])]
    sound = {root: True}
    while path:
        name = path[-1]
        target = next((item for item in waiting[-1] if item in needs), None)
        if target is None:
            waiting.pop()
            path.pop()
            done[name] = sound[name]
            if sound[name]:
                order.append(name)
            elif path:
                sound[path[-1]] = False
        elif target in done:
            sound[name] = sound[name] and done[target]
        elif target in sound:
            circles.append([*path[path.index(target) :], target])
            sound[name] = False
        else:
            path.append(target)
            waiting.append(iter(needs[target]))
            sound[target] = True


def architectures(workflow: Workflow) -> dict[str, Architecture]:
    """The architecture of every stage that makes a model.

    Raises:
        ValueError: a method cannot take the model it is given.
    """
    found: dict[str, Architecture] = {}
    for name in topological_order(workflow):
        body = workflow.stages[name].body
        if body.product == "model":
            found[name] = architecture_of(body, found)
    return found


def architecture_of(body: StageBody, known: Mapping[str, Architecture]) -> Architecture:
    """The architecture of the model that a stage makes, given those of earlier stages.

    Raises:
        ValueError: the method cannot take the model it is given.
        KeyError: the architecture of the stage's source is not known.
    """
    if isinstance(body, Train | Pretrained):
        return body.model
    source = source_of(body)
    if isinstance(body, Sparsify):
        dense = body.model or known[source or ""]
        target = body.method.target(dense)
        check_expressible(dense, repr(body.kind))
        return target
    if source is None:
        raise TypeError(f"a {body.kind} stage makes no model")
    if isinstance(body, Upcycle):
        return body.method.target(known[source])
    if not isinstance(body, Grow):
        return known[source]
    # What the method says first: it knows of mixtures, which come of an upcycling stage.
    target = body.method.target(known[source])
    check_expressible(known[source], repr(body.kind))
    check_expressible(target, f"what {body.kind!r} makes")
    return target


def source_of(body: StageBody) -> str | None:
    """The model that a stage starts from, if it does; of a merge, the first."""
    if isinstance(body, Grow | Upcycle | Continue | Sparsify | Densify):
        return body.from_
    if isinstance(body, Merge):
        return body.from_[0]
    return None


def sources_of(body: StageBody) -> tuple[str, ...]:
    """All models that a stage starts from; only a merge has several, its base the last."""
    if isinstance(body, Merge):
        return (*body.from_, *([body.base] if body.base else []))
    source = source_of(body)
    return () if source is None else (source,)


def tokens_of(workflow: Workflow, model_stage: str) -> str:
    """The prepare stage whose tokens a model was trained on last; its tokenizer is the model's.

    For a model that nothing here has trained, the pretrained stage that took it.

    Raises:
        KeyError: a stage on the way does not exist.
    """
    body = workflow.stages[model_stage].body
    while not isinstance(body, Training):
        if isinstance(body, Pretrained):
            return model_stage
        source = source_of(body)
        if source is None:
            raise KeyError(model_stage)
        model_stage, body = source, workflow.stages[source].body
    return body.data


def tokenizer_stage(workflow: Workflow, prepare_stage: str) -> str:
    """The stage that made the tokenizer: itself, or the one that `from` leads to.

    A prepare stage, or the pretrained stage whose model brought it.

    Raises:
        KeyError: a stage on the way does not exist.
    """
    seen = set()
    while prepare_stage not in seen:
        seen.add(prepare_stage)
        body = workflow.stages[prepare_stage].body
        if not isinstance(body, Prepare) or not isinstance(body.tokenizer, TokenizerFrom):
            break
        prepare_stage = body.tokenizer.from_
        if product_of(workflow, prepare_stage) == "model":
            prepare_stage = tokens_of(workflow, prepare_stage)
    return prepare_stage


def vocabulary(workflow: Workflow, prepare_stage: str) -> int:
    """Entries of the models' vocabulary for the tokens that a prepare stage makes.

    Raises:
        KeyError: the stage does not exist, or makes no tokens and takes no model.
    """
    body = workflow.stages[tokenizer_stage(workflow, prepare_stage)].body
    if isinstance(body, Pretrained):
        return body.vocab
    if not isinstance(body, Prepare) or isinstance(body.tokenizer, TokenizerFrom):
        raise KeyError(prepare_stage)
    return body.tokenizer.size
