"""YAML text as a tree of values that know where they stand.

The text is read as a stream of events, never composed by PyYAML, so that what is too deep, too
long or blown up by aliases is refused while it is read, before it costs time or memory. Scalars
are resolved by YAML 1.2's core schema: `1e-3` is a number, `on`, `yes` and `no` are text, and
dates are text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import yaml

from graftwork.errors import Problem, SpecError, Where
from graftwork.spec.syntax import syntax_problem

Scalar = str | int | float | bool | None
Plain = Scalar | dict[str, "Plain"] | list["Plain"]

MAX_DEPTH = 64
MAX_VALUES = 100_000
# 64-bit integers are what JSON readers and PyTorch can hold.
MAX_INTEGER = 2**63 - 1

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TEXT_TAG = "tag:yaml.org,2002:str"
_SAFE_TAGS = {"!", _TEXT_TAG, "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
_CONSTANTS: dict[str, Scalar] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True,
    "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_INTEGER = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


class Spot(NamedTuple):
    """A place in a file; line and column count from 1, and are 0 where there is no file."""

    file: str = ""
    line: int = 0
    column: int = 0

    def where(self, key: str = "") -> Where:
        """The place together with a dotted key."""
        return Where(self.file, self.line, self.column, key)


@dataclass(slots=True, eq=False)
class Node:
    """A value and where it stands.

    Attributes:
        value: A scalar, or a mapping or list of nodes. Never changed once built: aliases share it.
        spot: Where the value begins.
        keys: For a mapping, where each of its keys stands.
        size: Values below and with this one, aliases counted each time.
        text: For a scalar, the text as written.
        block: A mapping or list in block style, which begins on the line after its key.
    """

    value: Scalar | dict[str, Node] | list[Node]
    spot: Spot
    keys: dict[str, Spot] = field(default_factory=dict)
    size: int = 1
    text: str = ""
    block: bool = False


def plain(node: Node) -> Plain:
    """The node's value as plain data."""
    if isinstance(node.value, dict):
        return {key: plain(item) for key, item in node.value.items()}
    if isinstance(node.value, list):
        return [plain(item) for item in node.value]
    return node.value


def mapping(items: dict[str, Node], keys: dict[str, Spot], spot: Spot) -> Node:
    """A node that holds a mapping."""
    return Node(items, spot, keys, 1 + sum(item.size for item in items.values()), block=True)


class Refused(Exception):  # noqa: N818 - it never leaves this module as an error
    """Reading cannot go on; carries the problem."""

    def __init__(self, spot: Spot, what: str, remedy: str) -> None:
        self.problem = Problem(spot.where(), what, remedy)
        super().__init__(what)


def parse(text: str, file: str) -> Node:
    """Read one YAML document.

    Raises:
        SpecError: the text is not YAML, or is of a kind that no spec needs: several documents,
            repeated keys, keys that are not text, foreign tags, too deep, too many values.
    """
    reader = _Reader(text, file)
    try:
        node = reader.document()
    except Refused as error:
        raise SpecError([*reader.problems, error.problem]) from None
    except yaml.YAMLError as error:
        raise SpecError([*reader.problems, syntax_problem(error, file, text)]) from None
    if reader.problems:
        raise SpecError(reader.problems)
    return node


class _Reader:
    """Builds nodes from events. Small faults are collected, and reading goes on."""

    def __init__(self, text: str, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._events: Iterator[yaml.Event] = iter(yaml.parse(text, Loader=_LOADER))
        self._anchors: dict[str, Node | None] = {}
        self._values = 0
        self._path: list[str] = []

    def document(self) -> Node:
        """The one document of the text."""
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise Refused(
                        self._spot(event),
                        "the file holds several documents",
                        "Keep one; write each workflow to a file of its own.",
                    )
                root = self._node(next(self._events), 0)
        if root is None or root.value is None:
            raise Refused(
                Spot(self.file, 1, 1),
                "the file is empty",
                "Write at least 'metadata: {name: ...}' and one stage.",
            )
        return root

    def _spot(self, event: yaml.Event) -> Spot:
        mark = event.start_mark
        return Spot(self.file, mark.line + 1, mark.column + 1) if mark else Spot(self.file)

    def _fault(self, spot: Spot, what: str, remedy: str, *below: str) -> None:
        key = ".".join([*self._path, *below])
        self.problems.append(Problem(spot.where(key), what, remedy))

    def _below(self, key: str, event: yaml.Event, depth: int) -> Node:
        """The node that begins with the event, under a key or the number of an item."""
        self._path.append(key)
        node = self._node(event, depth + 1)
        self._path.pop()
        return node

    def _node(self, event: yaml.Event, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if not isinstance(
            event, yaml.ScalarEvent | yaml.SequenceStartEvent | yaml.MappingStartEvent
        ):
            raise AssertionError(f"no value begins with {event}")
        self._count(1, event)
        if depth > MAX_DEPTH:
            raise Refused(
                self._spot(event),
                f"values are nested more than {MAX_DEPTH} deep",
                "A spec needs about ten levels; look for brackets that are not closed.",
            )
        self._check_tag(event)
        anchor = event.anchor
        if anchor is not None:
            self._anchors[anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node = Node(self._scalar(event), self._spot(event), text=event.value)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._list(event, depth)
        else:
            node = self._mapping(event, depth)
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _count(self, values: int, event: yaml.Event) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            raise Refused(
                self._spot(event),
                f"the file holds more than {MAX_VALUES:,} values, aliases counted each time",
                "Split the workflow, use 'matrix' or 'defaults', or look for nested aliases.",
            )

    def _check_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        tag = event.tag
        if tag is not None and tag not in _SAFE_TAGS:
            short = tag.replace("tag:yaml.org,2002:", "!!")
            self._fault(
                self._spot(event),
                f"the tag {short!r} is not allowed",
                "Remove the tag; a spec is plain data.",
            )

    def _alias(self, event: yaml.AliasEvent) -> Node:
        if event.anchor not in self._anchors:
            raise Refused(
                self._spot(event),
                f"the alias *{event.anchor} has no anchor &{event.anchor} before it",
                "Define the anchor first, or put the text in quotes if no alias is meant.",
            )
        node = self._anchors[event.anchor]
        if node is None:
            raise Refused(
                self._spot(event),
                f"the alias *{event.anchor} stands inside its own anchor",
                "A value cannot contain itself; write it out.",
            )
        self._count(node.size, event)
        return node

    def _list(self, start: yaml.SequenceStartEvent, depth: int) -> Node:
        items: list[Node] = []
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._below(str(len(items)), event, depth))
        size = 1 + sum(item.size for item in items)
        return Node(items, self._spot(start), size=size, block=not start.flow_style)

    def _mapping(self, start: yaml.MappingStartEvent, depth: int) -> Node:
        items: dict[str, Node] = {}
        keys: dict[str, Spot] = {}
        merged: list[Node] = []
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            spot = self._spot(event)
            key = self._key(event, depth)
            value = self._below(key or "?", next(self._events), depth)
            if key is None:
                continue
            if key == "<<" and isinstance(event, yaml.ScalarEvent) and not event.style:
                merged.extend(self._merge_sources(value, spot))
            elif key in items:
                self._repeated(key, spot, keys[key])
            else:
                items[key], keys[key] = value, spot
        for source in merged:
            for key, value in source.value.items():  # type: ignore[union-attr] # a mapping
                if key not in items:
                    items[key], keys[key] = value, source.keys[key]
        size = 1 + sum(item.size for item in items.values())
        return Node(items, self._spot(start), keys, size, block=not start.flow_style)

    def _repeated(self, key: str, spot: Spot, first: Spot) -> None:
        self._fault(
            spot,
            f"the key {key!r} stands here a second time",
            f"It is in line {first.line} already; keep one of them.",
            key,
        )

    def _merge_sources(self, value: Node, spot: Spot) -> list[Node]:
        sources = value.value if isinstance(value.value, list) else [value]
        if not all(isinstance(source.value, dict) for source in sources):
            self._fault(
                spot,
                "the merge key '<<' takes a mapping, or a list of mappings",
                "Write for example '<<: *defaults', where &defaults marks a mapping.",
            )
            return []
        return sources

    def _key(self, event: yaml.Event, depth: int) -> str | None:
        """The text of a key, or None after noting that it is none."""
        node = self._node(event, depth + 1)
        if isinstance(node.value, str):
            return node.value
        written = "a list or mapping"
        remedy = "Write a name as the key."
        if isinstance(event, yaml.ScalarEvent):
            written = f"{event.value!r}" if event.value else "empty"
            remedy = f'Put it in quotes: "{event.value}".'
        self._fault(self._spot(event), f"the key is {written}, and keys are text", remedy)
        return None

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar:
        text = event.value
        if event.style or event.tag in (_TEXT_TAG, "!"):
            return text
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if _INTEGER.fullmatch(text) or _BASED.fullmatch(text):
            return self._integer(event)
        if _FLOAT.fullmatch(text) or _NOT_FINITE.fullmatch(text):
            return self._float(event)
        return text

    def _integer(self, event: yaml.ScalarEvent) -> int:
        text = event.value
        digits = text.lstrip("+-0ox")
        value = MAX_INTEGER + 1
        if len(digits) <= 32:
            value = int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if abs(value) > MAX_INTEGER:
            shown = text if len(text) <= 24 else f"{text[:20]}..."
            self._fault(
                self._spot(event),
                f"{shown} does not fit into 64 bits",
                "Write a smaller number, or put it in quotes if it is text.",
            )
            return 0
        return value

    def _float(self, event: yaml.ScalarEvent) -> float:
        text = event.value
        value = math.inf if _NOT_FINITE.fullmatch(text) else float(text)
        if not math.isfinite(value):
            shown = text if len(text) <= 24 else f"{text[:20]}..."
            self._fault(
                self._spot(event),
                f"{shown} is not a finite number",
                "Write a finite number, or put it in quotes if it is text.",
            )
            return 0.0
        return value
