"""What must hold between the parts of a workflow, each part being right in itself."""

from __future__ import annotations

import json
from typing import Any

from pydantic import ValidationError

from graftwork.errors import Problem
from graftwork.spec.base import proposal
from graftwork.spec.chain import chain_problems
from graftwork.spec.metrics import metric_problems
from graftwork.spec.names import Names
from graftwork.spec.nodes import Node
from graftwork.spec.stages import KINDS
from graftwork.spec.workflow import Workflow

_SECTIONS = ("pools", "corpora", "stages")


def check(workflow: Workflow, root: Node) -> list[Problem]:
    """Every problem between the parts of a valid workflow: names, circles, models, tokenizers."""
    kinds = dict.fromkeys(workflow.corpora, "corpus")
    kinds.update((name, stage.kind) for name, stage in workflow.stages.items())
    return _check(workflow, root, kinds, tuple(workflow.pools))


def check_parts(root: Node, data: dict[str, Any], error: ValidationError) -> list[Problem]:
    """The same for a workflow with errors, as far as its valid parts go.

    A name whose own part is wrong still counts as known, so that one mistake is not reported at
    every place that refers to it.
    """
    bad = {detail["loc"][:2] for detail in error.errors(include_url=False)}
    if any(not isinstance(data.get(section, {}), dict) for section in _SECTIONS):
        return []
    pruned: dict[str, Any] = {"metadata": {"name": "spec"}}
    for section in _SECTIONS:
        parts = data.get(section, {})
        pruned[section] = {k: v for k, v in parts.items() if (section, k) not in bad}
    try:
        workflow = Workflow.model_validate_json(json.dumps(pruned), strict=True)
    except ValidationError:
        # Nothing is left to check, for example when no stage is valid.
        return []
    kinds = dict.fromkeys(_known(data, "corpora"), "corpus")
    kinds.update((name, _kind(stage)) for name, stage in _known(data, "stages").items())
    return _check(workflow, root, kinds, tuple(_known(data, "pools")))


def _check(
    workflow: Workflow, root: Node, kinds: dict[str, str], pools: tuple[str, ...]
) -> list[Problem]:
    names = Names(workflow, root, kinds, pools)
    problems = list(names.problems())
    order, circles = names.order()
    problems += [*circles, *metric_problems(workflow, root, kinds)]
    return [*problems, *chain_problems(workflow, order, root)]


def _known(data: dict[str, Any], section: str) -> dict[str, Any]:
    """A section's parts, those with refused names also under the name that was proposed."""
    parts: dict[str, Any] = data.get(section, {})
    return {proposal(name): part for name, part in parts.items()} | parts


def _kind(stage: object) -> str:
    """The kind of a stage with errors; where it has none, the commonest."""
    kinds = [kind for kind in KINDS if isinstance(stage, dict) and kind in stage]
    return kinds[0] if kinds else "train"
