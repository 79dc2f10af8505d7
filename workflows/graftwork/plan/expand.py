"""Seeds: which stage runs for which seed.

The expansion goes backwards from the stages that nothing reads. Such a stage runs for the
workflow's own seed; a `compare` asks for its arms once a seed; every other stage asks for what
it reads at its own seed. A stage into which no chance enters runs once, whoever asks, unless its
data were written by a model of the workflow, which is another one for each seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from graftwork.errors import Problem, SpecError, Where
from graftwork.spec.base import NAME_LENGTH
from graftwork.spec.graph import Edge, edges, sort
from graftwork.spec.stages import Compare, StageBody
from graftwork.spec.synthesis import Synthesize
from graftwork.spec.workflow import Workflow

UNSEEDED = 0


@dataclass(frozen=True, slots=True)
class Node:
    """A stage for one seed; `seed` is 0 where no chance enters."""

    stage: str
    seed: int


Inputs = tuple[tuple[str, Node], ...]


@dataclass(frozen=True)
class Graph:
    """A workflow's stages, expanded by seed.

    Attributes:
        nodes: In an order in which they can run.
        inputs: By node, the artifacts it reads: the reference's role and the node that makes it.
        conditions: By node, the node whose metric its `when` reads.
        seeded: Names of the stages that run once a seed.
    """

    workflow: Workflow
    nodes: tuple[Node, ...]
    inputs: dict[Node, Inputs]
    conditions: dict[Node, Node]
    seeded: frozenset[str]

    def body(self, node: Node) -> StageBody:
        """The parameters of the node's stage."""
        return self.workflow.stages[node.stage].body

    def name(self, node: Node) -> str:
        """The node's name: the stage's own, or `<stage>-s<seed>` for a further seed."""
        if node.seed == self.workflow.seed or node.stage not in self.seeded:
            return node.stage
        return f"{node.stage}-s{node.seed}"

    def after(self, node: Node) -> tuple[Node, ...]:
        """All nodes that must be done before this one, each once."""
        nodes = [source for _, source in self.inputs[node]]
        if node in self.conditions:
            nodes.append(self.conditions[node])
        return tuple(dict.fromkeys(nodes))

    @cached_property
    def lineage(self) -> dict[Node, frozenset[Node]]:
        """By node, itself and every node that its artifact is made from."""
        found: dict[Node, frozenset[Node]] = {}
        for node in self.nodes:
            sources = (found[source] for _, source in self.inputs[node])
            found[node] = frozenset({node}).union(*sources)
        return found


def seeds_of(compare: Compare, workflow: Workflow) -> tuple[int, ...]:
    """The seeds for which a compare's arms run."""
    seeds = workflow.seeds if compare.seeds is None else compare.seeds
    if seeds is None:
        return (workflow.seed,)
    return tuple(range(workflow.seed, workflow.seed + seeds)) if isinstance(seeds, int) else seeds


def expand(workflow: Workflow) -> Graph:
    """Every stage for every seed that something asks for.

    Raises:
        SpecError: a circle, or a name that is taken or becomes too long with its seed.
    """
    stages = _Stages(workflow)
    inputs: dict[Node, Inputs] = {}
    conditions: dict[Node, Node] = {}
    wanted = stages.unread()
    while wanted:
        node = wanted.pop()
        if node in inputs:
            continue
        inputs[node] = stages.inputs(node)
        wanted.extend(source for _, source in inputs[node])
        condition = stages.condition(node)
        if condition is not None:
            conditions[node] = condition
            wanted.append(condition)
    graph = Graph(workflow, stages.in_order(inputs), inputs, conditions, stages.seeded)
    _check_names(graph)
    return graph


class _Stages:
    """The stages of a workflow and what they read."""

    def __init__(self, workflow: Workflow) -> None:
        self.workflow = workflow
        self.edges = {name: self._between_stages(found) for name, found in edges(workflow).items()}
        needs = {name: [edge.target for edge in found] for name, found in self.edges.items()}
        order, circles = sort(needs)
        if circles:
            raise SpecError(
                Problem(
                    Where(key=f"stages.{circle[0]}"),
                    f"the stages wait for one another: {' -> '.join(circle)}",
                    "Let one of them read something else.",
                )
                for circle in circles
            )
        self.place = {name: index for index, name in enumerate(order)}
        written = self._written(order)
        self.seeded = frozenset(
            name for name in order if workflow.stages[name].body.seeded or name in written
        )

    def _written(self, order: list[str]) -> set[str]:
        """Stages that make data of what a model of the workflow has written, itself or before."""
        found: set[str] = set()
        for name in order:
            body = self.workflow.stages[name].body
            writer = body.writer if isinstance(body, Synthesize) else None
            before = {edge.target for edge in self.edges[name] if edge.reason == "input"}
            if body.product in ("documents", "tokens") and (
                getattr(writer, "from_", None) or before & found
            ):
                found.add(name)
        return found

    def _between_stages(self, found: list[Edge]) -> list[Edge]:
        return [edge for edge in found if edge.target in self.workflow.stages]

    def unread(self) -> list[Node]:
        """The stages that no other stage reads, for the workflow's own seed."""
        read = {
            edge.target for found in self.edges.values() for edge in found
            if edge.reason != "budget"
        }  # fmt: skip
        return [self._at(name, self.workflow.seed) for name in self.edges if name not in read]

    def inputs(self, node: Node) -> Inputs:
        """What a node reads, by role."""
        found = [
            (edge.role, self._at(edge.target, seed))
            for edge in self.edges[node.stage]
            if edge.reason == "input"
            for seed in self._asked(node)
        ]
        return tuple(dict.fromkeys(found))

    def condition(self, node: Node) -> Node | None:
        """The node whose metric decides whether this one runs."""
        when = self.workflow.stages[node.stage].when
        if when is None:
            return None
        seeds = self._asked(node)
        own = self.workflow.seed
        return self._at(when.stage, own if own in seeds else seeds[0])

    def in_order(self, nodes: dict[Node, Inputs]) -> tuple[Node, ...]:
        """Nodes by the order of their stages; of one stage, the workflow's own seed first."""
        own = self.workflow.seed
        return tuple(sorted(nodes, key=lambda n: (self.place[n.stage], n.seed != own, n.seed)))

    def _at(self, stage: str, seed: int) -> Node:
        return Node(stage, seed if stage in self.seeded else UNSEEDED)

    def _asked(self, node: Node) -> tuple[int, ...]:
        """The seeds at which a node asks for what it reads."""
        body = self.workflow.stages[node.stage].body
        if isinstance(body, Compare):
            return seeds_of(body, self.workflow)
        return (node.seed if node.stage in self.seeded else self.workflow.seed,)


def _check_names(graph: Graph) -> None:
    problems = []
    for node in graph.nodes:
        name = graph.name(node)
        where = Where(key=f"stages.{node.stage}")
        if name != node.stage and name in graph.workflow.stages:
            what = f"for seed {node.seed} it is called {name!r}, as another stage is"
            problems.append(Problem(where, what, f"Give the stage {name!r} another name."))
        if len(name) > NAME_LENGTH:
            room = NAME_LENGTH - (len(name) - len(node.stage))
            what = f"for seed {node.seed} it is called {name!r}, {len(name)} characters long"
            remedy = f"Use at most {room} characters for the stage's name."
            problems.append(Problem(where, what, remedy))
    if problems:
        raise SpecError(problems)
