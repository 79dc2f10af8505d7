"""`${variable}` and references to stages, in the tree of a stage as it was read.

This works before the stage is validated, so what is not understood is left as it is: validation
will say what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from graftwork.spec.nodes import Node, mapping

# Keys under which stages are named; a test holds them against the words.
REFERENCE_KEYS = frozenset({"from", "data", "members", "models"})
ARMS = "arms"

_VARIABLE = re.compile(r"(\$?)\$\{([^}]*)\}")
_SELECTED = r"(?P<stage>[a-z][a-z0-9-]*)(?:\[(?P<values>[^\]]*)\])?"
_NAMED = re.compile(rf"()\s*{_SELECTED}\s*()")
_BUDGET = re.compile(rf"(\s*flops\s+of\s+){_SELECTED}(\s*)")
_WHEN = re.compile(rf"(\s*){_SELECTED}(\..*)", re.DOTALL)

Bindings = Mapping[str, Node]


@dataclass(frozen=True, slots=True)
class Named:
    """A reference as it is written: `base`, or `base[lr=1e-3]` for certain variants of it."""

    stage: str
    values: tuple[tuple[str, str], ...]
    node: Node
    arm: bool


def used_variables(node: Node) -> Iterator[tuple[str, Node]]:
    """Every `${variable}` in a tree, with the text that holds it."""
    for scalar in texts_with_dollars(node):
        for match in _VARIABLE.finditer(str(scalar.value)):
            if not match[1]:
                yield match[2].strip(), scalar


def path_to(node: Node, target: Node) -> list[str] | None:
    """The keys that lead from a tree to one of its nodes."""
    if node is target:
        return []
    below: Iterable[tuple[str, Node]] = ()
    if isinstance(node.value, dict):
        below = node.value.items()
    elif isinstance(node.value, list):
        below = ((str(index), item) for index, item in enumerate(node.value))
    for key, item in below:
        path = path_to(item, target)
        if path is not None:
            return [key, *path]
    return None


def texts_with_dollars(node: Node) -> Iterator[Node]:
    """The texts in a tree that hold a `${`, be it a variable or an escaped one."""
    if isinstance(node.value, dict):
        for item in node.value.values():
            yield from texts_with_dollars(item)
    elif isinstance(node.value, list):
        for item in node.value:
            yield from texts_with_dollars(item)
    elif isinstance(node.value, str) and "${" in node.value:
        yield node


def substitute(node: Node, bindings: Bindings) -> Node:
    """The tree with variables replaced; a text that is nothing but one takes its type and place.

    `$${...}` stands for `${...}` itself. Unknown variables are left.
    """
    if isinstance(node.value, dict):
        items = {key: substitute(item, bindings) for key, item in node.value.items()}
        return mapping(items, node.keys, node.spot)
    if isinstance(node.value, list):
        items_ = [substitute(item, bindings) for item in node.value]
        return Node(items_, node.spot, size=node.size, block=node.block)
    if not isinstance(node.value, str) or "${" not in node.value:
        return node
    whole = _VARIABLE.fullmatch(node.value.strip())
    if whole and not whole[1]:
        return bindings.get(whole[2].strip(), node)
    return Node(_VARIABLE.sub(lambda match: _text(match, bindings), node.value), node.spot)


def _text(match: re.Match[str], bindings: Bindings) -> str:
    if match[1]:
        return match[0][1:]
    bound = bindings.get(match[2].strip())
    return match[0] if bound is None else bound.text


def named_stages(stage: Node) -> Iterator[Named]:
    """Every reference in a stage: what it reads, its budget's stage, its condition's."""
    for node, pattern, arm in _references(stage):
        match = pattern.fullmatch(str(node.value))
        if match:
            yield _named(match, node, arm=arm)


def _named(match: re.Match[str], node: Node, *, arm: bool) -> Named:
    pairs = [] if match["values"] is None else match["values"].split(",")
    split = [pair.partition("=") for pair in pairs]
    values = tuple((key.strip(), value.strip()) for key, _, value in split)
    return Named(match["stage"], values, node, arm)


def rename(stage: Node, new_name: Callable[[Named], str]) -> Node:
    """The stage with every reference's name replaced by what `new_name` says; arms are left."""
    replaced: dict[int, Node] = {}
    for node, pattern, arm in _references(stage):
        match = pattern.fullmatch(str(node.value))
        if match and not arm:
            name = new_name(_named(match, node, arm=arm))
            text = f"{match[1]}{name}{match[match.lastindex or 0]}"
            replaced[id(node)] = Node(text, node.spot, text=text)
    return _replaced(stage, replaced)


def _replaced(node: Node, new: Mapping[int, Node]) -> Node:
    if id(node) in new:
        return new[id(node)]
    if isinstance(node.value, dict):
        items = {key: _replaced(item, new) for key, item in node.value.items()}
        return mapping(items, node.keys, node.spot)
    if isinstance(node.value, list):
        items_ = [_replaced(item, new) for item in node.value]
        return Node(items_, node.spot, size=node.size, block=node.block)
    return node


def _references(node: Node, key: str = "") -> Iterator[tuple[Node, re.Pattern[str], bool]]:
    """Texts that name a stage, how they do it, and whether they are arms of a comparison."""
    if isinstance(node.value, dict):
        for below, item in node.value.items():
            yield from _references(item, ARMS if key == ARMS else below)
    elif isinstance(node.value, list):
        for item in node.value:
            yield from _references(item, key)
    elif isinstance(node.value, str):
        if key in REFERENCE_KEYS or key == ARMS:
            yield node, _NAMED, key == ARMS
        elif key == "budget":
            yield node, _BUDGET, False
        elif key == "when":
            yield node, _WHEN, False
