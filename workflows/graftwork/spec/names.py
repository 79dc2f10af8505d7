"""Whether the names in a workflow stand for what they should, and whether stages form circles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from graftwork.errors import Problem, Where
from graftwork.spec.base import Path, Product, Reference, references
from graftwork.spec.graph import sort
from graftwork.spec.nodes import Node
from graftwork.spec.problems import near
from graftwork.spec.stages import KINDS, Training
from graftwork.spec.workflow import Workflow

_ARTICLES = {
    "corpus": "a corpus",
    "documents": "documents",
    "tokens": "tokens",
    "model": "a model",
    "evaluation": "an evaluation",
    "verdict": "a verdict",
}


def locate(root: Node, path: Path) -> Where:
    """Where a path of keys stands in the file; where it ends early, the place before it."""
    node, spot, keys = root, root.spot, []
    for part in path:
        below = None
        if isinstance(node.value, dict) and part in node.value:
            below = node.value[str(part)]
            at_key = below.block or below.value is None
            spot = node.keys[str(part)] if at_key else below.spot
        elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
            below = node.value[part]
            spot = below.spot
        if below is None:
            break
        keys.append(str(part))
        node = below
    return spot.where(".".join(keys))


@dataclass(slots=True)
class Names:
    """The names of a workflow, what they stand for, and what was found wrong with their use.

    Attributes:
        workflow: Its valid parts.
        root: The file.
        kinds: For every name, `corpus` or the stage's kind, parts with problems included.
        pools: All pools, likewise.
        needs: For each valid stage, the names of the stages it waits for.
        faulty: Stages with a reference that leads nowhere or to the wrong thing.
    """

    workflow: Workflow
    root: Node
    kinds: Mapping[str, str]
    pools: tuple[str, ...]
    needs: dict[str, dict[str, Path]] = field(default_factory=dict)
    faulty: set[str] = field(default_factory=set)

    def problems(self) -> Iterator[Problem]:
        """All problems with names."""
        yield from self._twice()
        for name in self.workflow.stages:
            self.needs[name] = {}
            for problem in self._stage(name):
                self.faulty.add(name)
                yield problem

    def where(self, *path: str | int) -> Where:
        """The place of a path of keys."""
        return locate(self.root, path)

    def order(self) -> tuple[list[str], list[Problem]]:
        """Stages in order, without those that wait for one with a problem; and circles."""
        order, circles = sort(self.needs)
        problems = [self._circle(circle) for circle in circles]
        sound: list[str] = []
        known: set[str] = set()
        for name in order:
            if name not in self.faulty and all(need in known for need in self.needs[name]):
                sound.append(name)
                known.add(name)
        return sound, problems

    def _circle(self, circle: list[str]) -> Problem:
        where = self.where(*self.needs[circle[0]][circle[1]])
        return Problem(where, *circle_problem(circle))

    def _twice(self) -> Iterator[Problem]:
        for name in self.workflow.stages:
            if name in self.workflow.corpora:
                yield Problem(
                    self.where("stages", name),
                    f"{name!r} is a corpus already, and a reference could mean either",
                    "Give the stage or the corpus another name.",
                )

    def _stage(self, name: str) -> Iterator[Problem]:
        stage = self.workflow.stages[name]
        body = stage.body
        base: Path = ("stages", name, body.kind)
        for path, target, reference in references(body):
            yield from self._reference((*base, *path), name, target, reference)
        if body.pool is not None and body.pool not in self.pools:
            yield self._pool((*base, "pool"), body.pool)
        if isinstance(body, Training) and body.budget.unit == "flops_of":
            yield from self._budget((*base, "budget"), name, body.budget.of)
        if stage.when is not None:
            yield from self._when(("stages", name, "when"), name, stage.when.stage)

    def _reference(
        self, path: Path, name: str, target: str, reference: Reference
    ) -> Iterator[Problem]:
        if target in self.workflow.stages and target in self.workflow.corpora:
            # Reported as such; what is meant cannot be known.
            self.faulty.add(name)
            return
        kind = self.kinds.get(target)
        fitting = [
            other for other, made_by in self.kinds.items()
            if _product(made_by) in reference.products and other != name
        ]  # fmt: skip
        if kind is None:
            word = "corpus or stage" if "corpus" in reference.products else "stage"
            what = f"there is no {word} named {target!r}"
            yield Problem(self.where(*path), what, _choices(target, fitting, reference))
        elif _product(kind) not in reference.products:
            what = f"{target!r} is {_called(kind)}, and {_due(reference)} due here"
            yield Problem(self.where(*path), what, _choices(target, fitting, reference))
        elif kind != "corpus":
            self.needs[name].setdefault(target, path)

    def _pool(self, path: Path, pool: str) -> Problem:
        likely = near(pool, self.pools)
        listed = f"The pools are: {', '.join(self.pools)}." if self.pools else "There are none yet."
        remedy = f"Did you mean {likely!r}?" if likely else f"Define it under 'pools'. {listed}"
        return Problem(self.where(*path), f"there is no pool named {pool!r}", remedy)

    def _budget(self, path: Path, name: str, target: str) -> Iterator[Problem]:
        trained = [
            other for other, stage in self.workflow.stages.items()
            if isinstance(stage.body, Training) and other != name
        ]  # fmt: skip
        listed = (
            f"Stages that train: {', '.join(trained)}."
            if trained
            else "Give it in tokens or steps."
        )
        likely = near(target, trained)
        remedy = f"Did you mean {likely!r}?" if likely else listed
        where = self.where(*path)
        if target == name:
            yield Problem(where, "the budget is that of the stage itself", listed)
        elif target in self.workflow.stages:
            body = self.workflow.stages[target].body
            if isinstance(body, Training):
                self.needs[name].setdefault(target, path)
            else:
                what = f"{target!r} is a {body.kind} stage, which does not train and has no FLOPs"
                yield Problem(where, what, listed)
        elif self.kinds.get(target, "corpus") == "corpus":
            yield Problem(where, f"there is no stage named {target!r}", remedy)
        else:
            self.faulty.add(name)

    def _when(self, path: Path, name: str, target: str) -> Iterator[Problem]:
        stages = [other for other, kind in self.kinds.items() if kind != "corpus" and other != name]
        likely = near(target, stages)
        listed = f"The other stages are: {', '.join(stages)}." if stages else "Remove 'when'."
        where = self.where(*path)
        if target == name:
            yield Problem(where, "the condition reads a metric of the stage itself", listed)
        elif target in stages:
            self.needs[name].setdefault(target, path)
        else:
            what = f"there is no stage named {target!r}"
            if target in self.kinds:
                what = f"{target!r} is a corpus, and only stages have metrics"
            yield Problem(where, what, f"Did you mean {likely!r}?" if likely else listed)


def circle_problem(circle: list[str]) -> tuple[str, str]:
    """What is wrong with stages that wait for one another, and what to do."""
    if len(circle) == 2:
        return f"the stage {circle[0]!r} waits for itself", "Name another stage."
    what = f"the stages wait for one another: {' -> '.join(circle)}"
    return what, "Let one of them name a stage that is not made from it."


def _product(kind: str) -> Product:
    return KINDS[kind].product if kind in KINDS else "corpus"


def _called(kind: str) -> str:
    if kind == "corpus":
        return "a corpus"
    article = "an" if kind[0] in "aeiou" else "a"
    return f"{article} {kind} stage and makes {_ARTICLES[_product(kind)]}"


def _due(reference: Reference) -> str:
    words = " or ".join(_ARTICLES[product] for product in sorted(reference.products))
    plural = reference.products <= {"tokens", "documents"}
    return f"{words} {'are' if plural else 'is'}"


def _choices(target: str, fitting: list[str], reference: Reference) -> str:
    """What to write in place of a name that does not fit."""
    likely = near(target, fitting)
    if likely:
        return f"Did you mean {likely!r}?"
    if fitting:
        return f"Names that fit: {', '.join(fitting)}."
    makers = [
        "a corpus" if product == "corpus" else f"a stage of kind {_makers(product)}"
        for product in sorted(reference.products)
    ]
    return f"There is none yet; add {' or '.join(makers)}."


def _makers(product: Product) -> str:
    """The kinds of stages that make a product."""
    return ", ".join(kind for kind, body in KINDS.items() if body.product == product)
