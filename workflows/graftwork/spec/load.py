"""Reading a spec: files, overlays and `--set` in, a checked `Workflow` out, or every problem."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from graftwork.errors import Problem, SpecError
from graftwork.spec.check import check, check_parts
from graftwork.spec.defaults import apply_defaults
from graftwork.spec.files import read
from graftwork.spec.matrix import expand
from graftwork.spec.nodes import Node, Spot, plain
from graftwork.spec.overlay import apply_set, merge
from graftwork.spec.problems import translate
from graftwork.spec.workflow import Workflow


def load(paths: Sequence[str | Path], sets: Sequence[str] = ()) -> Workflow:
    """Read a spec, lay overlays and `--set` values on it, expand it, and check all of it.

    The first path is the spec, further ones are overlays (see `overlay.merge`); `-` is standard
    input. Then `sets` are applied, `a.b.c=value` each. `defaults` and `matrix` are expanded, so
    the result has neither.

    Raises:
        SpecError: with every problem that was found, each with its file, line, column and key.
    """
    root = _read_all(paths, sets)
    problems: list[Problem] = []
    root = apply_defaults(root, problems)
    root = expand(root, problems)
    return _validate(root, problems)


def _read_all(paths: Sequence[str | Path], sets: Sequence[str]) -> Node:
    if not paths:
        raise AssertionError("load needs at least one path")
    problems: list[Problem] = []
    trees = [tree for path in paths if (tree := _or_note(problems, read, path)) is not None]
    for tree in trees:
        if not isinstance(tree.value, dict):
            what = "a spec is a mapping of keys, and this is not one"
            problems.append(Problem(tree.spot.where(), what, "Begin with 'metadata:'."))
    if problems:
        raise SpecError(problems)
    root = trees[0]
    for tree in trees[1:]:
        root = merge(root, tree)
    for text in sets:
        root = _or_note(problems, apply_set, root, text) or root
    if problems:
        raise SpecError(problems)
    return root


def _or_note(problems: list[Problem], do: Callable[..., Node], *arguments: object) -> Node | None:
    """What `do` returns, or None after noting its problems, so that reading goes on."""
    try:
        return do(*arguments)
    except SpecError as error:
        problems.extend(error.problems)
        return None


def _validate(root: Node, problems: list[Problem]) -> Workflow:
    data: Any = plain(root)
    try:
        workflow = Workflow.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        problems.extend(translate(error, root))
        problems.extend(check_parts(root, data, error))
        raise SpecError(problems) from None
    problems.extend(check(workflow, root))
    if problems:
        raise SpecError(problems)
    return workflow
