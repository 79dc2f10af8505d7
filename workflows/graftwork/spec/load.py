"""Reading a spec: files, overlays and `--set` in, a checked `Workflow` out, or every problem."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from graftwork.errors import Problem, SpecError
from graftwork.spec.check import check, check_parts
from graftwork.spec.defaults import apply_defaults
from graftwork.spec.files import read
from graftwork.spec.matrix import expand
from graftwork.spec.names import locate
from graftwork.spec.nodes import Node, Spot, plain
from graftwork.spec.overlay import apply_set, merge
from graftwork.spec.problems import translate
from graftwork.spec.workflow import Workflow


@dataclass(frozen=True, slots=True)
class Loaded:
    """A workflow, and where each of its parts was written.

    Attributes:
        workflow: Checked, with `defaults` and `matrix` expanded.
        origins: By stage that a matrix made, the stage as it was written.
    """

    workflow: Workflow
    root: Node
    origins: Mapping[str, str]

    def locate(self, error: SpecError) -> SpecError:
        """The error with file, line and column for every problem that has only its key."""
        problems = []
        for problem in error.problems:
            if problem.where.key and not problem.where.file:
                path = tuple(problem.where.key.split("."))
                found = locate(self.root, path)
                problem = replace(problem, where=replace(found, key=problem.where.key))
            problems.append(problem)
        return SpecError(as_written(problems, self.origins))


def load(paths: Sequence[str | Path], sets: Sequence[str] = ()) -> Workflow:
    """Read a spec, lay overlays and `--set` values on it, expand it, and check all of it.

    The first path is the spec, further ones are overlays (see `overlay.merge`); `-` is standard
    input. Then `sets` are applied, `a.b.c=value` each. `defaults` and `matrix` are expanded, so
    the result has neither.

    Raises:
        SpecError: with every problem that was found, each with its file, line, column and key.
    """
    return load_with_places(paths, sets).workflow


def load_with_places(paths: Sequence[str | Path], sets: Sequence[str] = ()) -> Loaded:
    """As `load`, together with the places of all parts, for errors that are found later.

    Raises:
        SpecError: as `load`.
    """
    root = _read_all(paths, sets)
    problems: list[Problem] = []
    written = _keys_by_spot(root)
    root = apply_defaults(root, problems)
    root, origins = expand(root, problems)
    noted = {problem.where for problem in problems}
    workflow, later = _validate(root)
    # What has been noted at a place makes further findings there.
    problems += [item for item in as_written(later, origins) if item.where not in noted]
    if workflow is None or problems:
        raise SpecError(_keys_as_written(problems, written))
    return Loaded(workflow, root, origins)


def as_written(problems: Iterable[Problem], origins: Mapping[str, str]) -> list[Problem]:
    """Problems with the names of stages as they stand in the file, before a matrix was expanded."""
    found = []
    for problem in problems:
        parts = problem.where.key.split(".")
        if len(parts) > 1 and parts[0] == "stages" and parts[1] in origins:
            key = ".".join([parts[0], origins[parts[1]], *parts[2:]])
            problem = replace(problem, where=replace(problem.where, key=key))
        found.append(problem)
    return found


def _keys_by_spot(root: Node) -> dict[Spot, str]:
    """The dotted key of every place under `defaults`, as it was written."""
    found: dict[Spot, str] = {}
    if isinstance(root.value, dict) and "defaults" in root.value:
        _collect(root.value["defaults"], "defaults", found)
    return found


def _collect(node: Node, key: str, found: dict[Spot, str]) -> None:
    found.setdefault(node.spot, key)
    if isinstance(node.value, dict):
        for name, item in node.value.items():
            found.setdefault(node.keys[name], f"{key}.{name}")
            _collect(item, f"{key}.{name}", found)
    elif isinstance(node.value, list):
        for index, item in enumerate(node.value):
            _collect(item, f"{key}.{index}", found)


def _keys_as_written(problems: Iterable[Problem], written: Mapping[Spot, str]) -> list[Problem]:
    """Problems with a value that comes from `defaults`, under the key it has there, once each."""
    found = []
    for problem in problems:
        where = problem.where
        key = written.get(Spot(where.file, where.line, where.column)) if where.line else None
        if key is not None and key.rpartition(".")[2] == where.key.rpartition(".")[2]:
            problem = replace(problem, where=replace(where, key=key))
        found.append(problem)
    return found


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


def _validate(root: Node) -> tuple[Workflow | None, list[Problem]]:
    data: Any = plain(root)
    try:
        workflow = Workflow.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        return None, [*translate(error, root), *check_parts(root, data, error)]
    return workflow, check(workflow, root)
