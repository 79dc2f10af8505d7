"""From a workflow to its plan: one step a stage and seed, with fingerprint and cost. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import fsum

from graftwork.plan.expand import Graph, Node, expand
from graftwork.plan.fairness import check_arms
from graftwork.plan.memory import worker_bytes
from graftwork.plan.model import Cost, Plan, PlannedStep
from graftwork.plan.remarks import remarks
from graftwork.plan.work import Model, Work, models, resolve
from graftwork.spec.data import Corpus
from graftwork.spec.graph import edges
from graftwork.spec.pretrained import Pretrained
from graftwork.spec.resources import Pool
from graftwork.spec.stages import Evaluate, StageBody, Training
from graftwork.spec.workflow import Workflow
from graftwork.step import Step, StepInput, StepWork, step_fingerprint


def plan(workflow: Workflow, *, source_digests: Mapping[str, str] | None = None) -> Plan:
    """What the workflow will do: every step with its inputs, fingerprint, work and cost.

    Args:
        workflow: A loaded spec.
        source_digests: By corpus or pretrained stage, a digest of its local files; part of the
            identity of the stages that read them.

    Raises:
        SpecError: seeds that make names too long, budgets that cannot be resolved, or arms of a
            comparison whose compute is not alike.
    """
    planner = _Planner(workflow, dict(source_digests or {}))
    steps = tuple(planner.planned(node) for node in planner.graph.nodes)
    notes = [*check_arms(planner.graph, steps), *remarks(workflow, steps)]
    return Plan(
        workflow.metadata.name, workflow.metadata.title, workflow.execution, steps, tuple(notes)
    )


class _Planner:
    """One planning: what is worked out once and used by every step."""

    def __init__(self, workflow: Workflow, digests: dict[str, str]) -> None:
        self.workflow = workflow
        self.digests = digests
        self.graph: Graph = expand(workflow)
        self.edges = edges(workflow)
        self.models: dict[str, Model] = models(workflow)
        self.work: dict[str, Work] = resolve(workflow, self.models)
        self.fingerprints: dict[Node, str] = {}

    def planned(self, node: Node) -> PlannedStep:
        """The step for a node whose inputs have been planned."""
        step = self._step(node)
        self.fingerprints[node] = step.fingerprint
        after = tuple(self.graph.name(before) for before in self.graph.after(node))
        return PlannedStep(step, after, self._cost(node, step.pool))

    def _step(self, node: Node) -> Step:
        stage = self.workflow.stages[node.stage]
        inputs = tuple(self._input(role, source) for role, source in self.graph.inputs[node])
        condition = self.graph.conditions.get(node)
        corpora = self._corpora(node)
        digests = {name: self.digests[name] for name in corpora if name in self.digests}
        if isinstance(stage.body, Pretrained) and node.stage in self.digests:
            # Names of stages are no part of what a stage makes.
            digests["uri"] = self.digests[node.stage]
        work = self.work[node.stage].step
        return Step(
            workflow=self.workflow.metadata.name,
            name=self.graph.name(node),
            stage=node.stage,
            seed=node.seed,
            spec=stage,
            inputs=inputs,
            condition=self._input("when", condition) if condition else None,
            corpora=corpora,
            source_digests=digests,
            storage=self.workflow.storage,
            pool=self._pool(stage.body.pool),
            execution=self.workflow.execution,
            work=work,
            fingerprint=step_fingerprint(stage, node.seed, inputs, corpora, digests, work),
        )

    def _input(self, role: str, source: Node) -> StepInput:
        return StepInput(
            role=role,
            stage=source.stage,
            seed=source.seed,
            product=self.graph.body(source).product,
            fingerprint=self.fingerprints[source],
        )

    def _corpora(self, node: Node) -> dict[str, Corpus]:
        names = (edge.target for edge in self.edges[node.stage] if edge.product == "corpus")
        return {name: self.workflow.corpora[name] for name in names}

    def _pool(self, name: str | None) -> Pool:
        return self.workflow.pools[name] if name else Pool()

    def _cost(self, node: Node, pool: Pool) -> Cost:
        body = self.graph.body(node)
        source = body.from_ if isinstance(body, Evaluate) else node.stage
        model = self.models.get(source)
        work = self.work[node.stage]
        works = [self.work[ancestor.stage] for ancestor in self.graph.lineage[node]]
        known = all(w.flops is not None for w in works)
        return Cost(
            architecture=model.architecture if model else None,
            parameters=model.parameters if model else 0,
            active_parameters=model.active_parameters if model else 0,
            tokens=work.tokens,
            flops=work.flops,
            total_tokens=sum(w.tokens or 0 for w in works) if known else None,
            total_flops=fsum(w.flops or 0.0 for w in works) if known else None,
            memory=_memory(body, model, work.step, pool),
        )


def _memory(body: StageBody, model: Model | None, work: StepWork | None, pool: Pool) -> int:
    if not isinstance(body, Training) or model is None or work is None:
        return 0
    return worker_bytes(model, work, pool, body)
