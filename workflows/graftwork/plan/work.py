"""Budgets: how many optimizer steps a stage takes, and what that costs.

All by arithmetic on the spec, once a stage: every seed of a stage does the same work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import fsum

from graftwork.errors import Problem, SpecError, Where
from graftwork.spec.cost import Cost
from graftwork.spec.graph import (
    architectures,
    edges,
    source_of,
    tokens_of,
    topological_order,
    vocabulary,
)
from graftwork.spec.growth import GLearn
from graftwork.spec.latents import Bolt
from graftwork.spec.model import Architecture
from graftwork.spec.pretrained import Pretrained
from graftwork.spec.stages import Continue, Grow, Prepare, Sparsify, StageBody, Training
from graftwork.spec.synthesis import Synthesize
from graftwork.spec.workflow import Workflow
from graftwork.step import StepWork
from graftwork.units import format_number

# Rounds in which a budget in FLOPs becomes steps; what is left after them is less than a step.
_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Model:
    """The model that a stage makes.

    Attributes:
        maskable: Weights that masks may hold at zero.
        density: Share of them that is kept in the end; 1 where there is no mask.
    """

    architecture: Architecture
    vocab: int
    context: int
    maskable: int = 0
    density: float = 1.0

    @property
    def parameters(self) -> int:
        """All parameters, masked ones included."""
        return self.architecture.parameters(self.vocab)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token meets: experts it is not sent to and masked ones left out."""
        held = round((1.0 - self.density) * self.maskable)
        return self.architecture.active_parameters(self.vocab) - held

    def cost(self, body: Training, steps: int, before: float = 1.0) -> Cost:
        """What it costs to train it for `steps` optimizer steps.

        Args:
            body: The stage that does.
            steps: How many.
            before: Density of the model that the stage begins with.

        Raises:
            ValueError: the steps are too few for the stage's method.
        """
        context = body.schedule.mean_context(self.context)
        if isinstance(body, Continue) and body.sub_models:
            return body.sub_models.cost(self.architecture, self.vocab, self.context)
        if isinstance(body, Continue) and body.method:
            batch = body.batch.sequences(self.context) * self.context
            each = self.architecture.flops_per_token(self.vocab, context)
            return body.method.cost(each, steps, batch)
        if isinstance(body, Sparsify):
            return body.method.cost(self.architecture, self.vocab, self.context, steps, before)
        return Cost(self.architecture.flops_per_token(self.vocab, context))


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage trains. `tokens` and `flops` are None where the budget is in epochs."""

    step: StepWork | None = None
    tokens: int | None = 0
    flops: float | None = 0.0


def models(workflow: Workflow) -> dict[str, Model]:
    """The model of every stage that makes one."""
    found: dict[str, Model] = {}
    for name, architecture in architectures(workflow).items():
        data = tokens_of(workflow, name)
        read = workflow.stages[data].body
        if not isinstance(read, Prepare | Pretrained):
            raise AssertionError(f"{data!r} makes no tokens and takes no model")
        body, vocab = workflow.stages[name].body, vocabulary(workflow, data)
        maskable, density = 0, 1.0
        if isinstance(body, Sparsify):
            maskable, density = body.method.maskable(architecture, vocab), body.method.density
        found[name] = Model(architecture, vocab, read.context, maskable, density)
    return found


def resolve(workflow: Workflow, made: dict[str, Model]) -> dict[str, Work]:
    """The work of every stage, budgets in terms of other stages resolved.

    Raises:
        SpecError: `flops of STAGE` where that stage's cost is not known, or is used up already
            by what this stage is made from.
    """
    ancestors = _ancestors(workflow)
    found: dict[str, Work] = {}
    problems = []
    for name in topological_order(workflow):
        body = workflow.stages[name].body
        if not isinstance(body, Training):
            found[name] = _thoughts(body, made) or _lesson(workflow, body, made.get(name))
            continue
        try:
            source = source_of(body)
            before = made[source].density if source else 1.0
            cost = partial(made[name].cost, body, before=before)
            found[name] = _train(body, made[name], name, cost, found, ancestors)
        except ValueError as error:
            what, _, remedy = str(error).partition("\n")
            if not remedy:
                what, _, remedy = what.partition("; ")
                remedy = f"{remedy[:1].upper()}{remedy[1:]}." if remedy else ""
            problems.append(Problem(Where(key=f"stages.{name}.{body.kind}.budget"), what, remedy))
            found[name] = Work(tokens=None, flops=None)
    if problems:
        raise SpecError(problems)
    return found


def _thoughts(body: StageBody, made: dict[str, Model]) -> Work | None:
    """What it costs to sample latents and weigh them: passes forward, a third of training's."""
    if not isinstance(body, Synthesize) or not isinstance(body.method, Bolt):
        return None
    budget, writer = body.method.budget, getattr(body.writer, "from_", None)
    if budget is None or writer is None:
        return None
    model = made[writer]
    each = model.architecture.flops_per_token(model.vocab, model.context) / 3
    return Work(None, 0, budget.amount * each)


def _lesson(workflow: Workflow, body: StageBody, model: Model | None) -> Work:
    """What a method of growth costs that learns how to grow; nothing for all others."""
    if model is None or not isinstance(body, Grow) or not isinstance(body.method, GLearn):
        return Work()
    prepare = workflow.stages[body.method.data].body
    if not isinstance(prepare, Prepare):
        raise AssertionError(f"{body.method.data!r} makes tokens and is no prepare stage")
    tokens = body.method.steps * body.method.batch * prepare.context
    each = model.architecture.flops_per_token(model.vocab, prepare.context)
    return Work(None, tokens, tokens * each)


def _train(
    body: Training,
    model: Model,
    name: str,
    cost: Callable[[int], Cost],
    known: dict[str, Work],
    ancestors: dict[str, frozenset[str]],
) -> Work:
    sequences = body.batch.sequences(model.context)
    batch = sequences * model.context
    budget = body.budget
    if budget.unit == "epochs":
        step = StepWork(epochs=budget.amount, sequences=sequences, context=model.context)
        return Work(step, None, None)
    if budget.unit == "flops_of":
        steps = _affordable(model, _flops_left(name, budget.of, known, ancestors), batch, cost)
    elif budget.unit == "flops":
        steps = _affordable(model, budget.amount, batch, cost)
    else:
        steps = budget.amount if budget.unit == "steps" else budget.amount / batch
    whole = max(1, round(steps))
    tokens = whole * batch
    step = StepWork(steps=whole, sequences=sequences, context=model.context)
    return Work(step, tokens, cost(whole).flops(whole, batch))


def _affordable(model: Model, flops: float, batch: int, cost: Callable[[int], Cost]) -> float:
    """Optimizer steps that so many FLOPs pay for.

    What a step costs on average may itself depend on how many there are, a little.

    Raises:
        ValueError: they are too few for the stage's method.
    """
    steps = flops / (batch * model.architecture.flops_per_token(model.vocab, model.context))
    for _ in range(_ROUNDS):
        whole = max(1, round(steps))
        steps = flops / (cost(whole).flops(whole, batch) / whole)
    return steps


def _flops_left(
    name: str, other: str, known: dict[str, Work], ancestors: dict[str, frozenset[str]]
) -> float:
    """FLOPs of all that `other` was made from, less those of what this stage is made from.

    Raises:
        ValueError: with what is wrong, a line break, and what to do.
    """
    target = total_flops({other} | ancestors[other], known)
    spent = total_flops(ancestors[name], known)
    if target is None or spent is None:
        missing = other if target is None else name
        raise ValueError(
            f"the FLOPs of {missing!r} are not known before its data is prepared, because a "
            f"budget on the way to it is in epochs\nGive that budget in tokens or steps."
        )
    if target <= spent:
        raise ValueError(
            f"{other!r} and all it is made from cost {format_number(target)} FLOPs, and what "
            f"{name!r} is made from has cost {format_number(spent)} already, so that nothing is "
            f"left to train with\nGive a budget in tokens or steps, or train {other!r} longer."
        )
    return target - spent


def total_flops(stages: frozenset[str] | set[str], known: dict[str, Work]) -> float | None:
    """FLOPs of these stages together, or None where one of them is not known."""
    costs = [known[stage].flops for stage in stages]
    # An exact sum, so that the order of a set does not matter.
    return None if None in costs else fsum(cost for cost in costs if cost is not None)


def _ancestors(workflow: Workflow) -> dict[str, frozenset[str]]:
    """By stage, every stage that its artifact is made from, itself not counted."""
    needs = edges(workflow)
    found: dict[str, frozenset[str]] = {}
    for name in topological_order(workflow):
        read = [
            edge.target for edge in needs[name]
            if edge.reason == "input" and edge.target in workflow.stages
        ]  # fmt: skip
        found[name] = frozenset(read).union(*(found[target] for target in read))
    return found
