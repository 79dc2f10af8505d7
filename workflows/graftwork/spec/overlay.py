"""Overlays and `--set`: later values replace earlier ones, each keeping its own place."""

from __future__ import annotations

import re

from graftwork.errors import Problem, SpecError, Where
from graftwork.spec.nodes import MAX_DEPTH, Node, Spot, mapping, parse

# Keys of which a tokenizer has one: they tell its forms apart.
_TOKENIZERS = {"name", "train", "file", "from"}

# Ways to write nothing: `null` takes a key away.
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


def merge(base: Node, over: Node, under: str = "") -> Node:
    """`base` with the values of `over` laid on it.

    Mappings are merged key by key; lists and scalars are replaced; an empty value (`null`) takes
    a key away, so that its default holds. A mapping that names another form (another `name` of a
    method, another `source` of a corpus, another kind of tokenizer) replaces the old one whole.
    `under` is the key that both stand under.
    """
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    if _other_form(base.value, over.value, under):
        return over
    items, keys = dict(base.value), dict(base.keys)
    for key, value in over.value.items():
        if value.value is None:
            items.pop(key, None)
            keys.pop(key, None)
            continue
        items[key] = merge(items[key], value, key) if key in items else value
        keys[key] = over.keys[key]
    return mapping(items, keys, over.spot if not base.value else base.spot)


def _other_form(base: dict[str, Node], over: dict[str, Node], under: str) -> bool:
    if under == "tokenizer":
        forms = [_TOKENIZERS & set(part) for part in (base, over)]
        return bool(forms[0] and forms[1]) and forms[0] != forms[1]
    return any(
        key in base and key in over and base[key].value != over[key].value
        for key in ("name", "source")
    )


def apply_set(root: Node, text: str) -> Node:
    r"""The tree with one `--set a.b.c=value` applied; the value is read as YAML.

    A dot inside a key is written `\.`; a number selects an item of a list.

    Raises:
        SpecError: no `=`, an empty key, a value that is not YAML, or an item that is not there.
    """
    path, equals, value = text.partition("=")
    file = f"--set {path}"
    if not equals or not path.strip(".") or ".." in path:
        raise SpecError(
            [
                Problem(
                    Where(f"--set {text}"),
                    "this sets nothing",
                    "Write 'key.subkey=value', for example 'pools.a100.workers=2'.",
                )
            ]
        )
    parts = [part.replace("\\.", ".") for part in re.split(r"(?<!\\)\.", path)]
    if len(parts) > MAX_DEPTH:
        raise SpecError(
            [Problem(Where(f"--set {parts[0]}..."), "the key is too long", "Shorten it.")]
        )
    return _replace(root, parts, _value(value, file), Spot(file), path)


def _value(text: str, file: str) -> Node:
    if text.strip() in _NULLS:
        return Node(None, Spot(file))
    if text.lstrip().startswith("#"):
        raise SpecError(
            [Problem(Where(file), "the value is a comment in YAML", "Put it in quotes.")]
        )
    return _at(parse(text, file), Spot(file))


def _at(node: Node, spot: Spot) -> Node:
    """The node as if all of it stood at one spot: a command line has no lines."""
    if isinstance(node.value, dict):
        items = {key: _at(item, spot) for key, item in node.value.items()}
        return mapping(items, dict.fromkeys(items, spot), spot)
    if isinstance(node.value, list):
        return Node([_at(item, spot) for item in node.value], spot, size=node.size, block=True)
    return Node(node.value, spot, text=node.text)


def _replace(node: Node, parts: list[str], value: Node, spot: Spot, path: str) -> Node:
    """A copy of the tree in which the place that `parts` leads to holds `value`."""
    if not parts:
        return merge(node, value)
    first, *rest = parts
    if isinstance(node.value, list):
        index = int(first) if first.isdecimal() and len(first) < 9 else -1
        if not 0 <= index < len(node.value):
            raise SpecError(
                [
                    Problem(
                        spot.where(path),
                        f"{first!r} is no item of a list of {len(node.value)}",
                        f"Use a number from 0 to {len(node.value) - 1}." if node.value else "",
                    )
                ]
            )
        items = list(node.value)
        items[index] = _replace(items[index], rest, value, spot, path)
        return Node(items, node.spot, size=node.size, block=node.block)
    if not rest and value.value is None:
        removed = {first: Node(None, spot)}
        return merge(node, mapping(removed, {first: spot}, spot))
    old = node.value if isinstance(node.value, dict) else {}
    below = old.get(first, Node({}, spot))
    items_by_key, keys = dict(old), dict(node.keys)
    items_by_key[first] = (
        _replace(below, rest, value, spot, path) if rest else merge(below, value, first)
    )
    keys[first] = spot if first not in keys or not rest else keys[first]
    return mapping(items_by_key, keys, node.spot)
