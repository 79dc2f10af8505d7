"""Where a path of pydantic's leads: in the types of the language, and in the file.

Pydantic's paths hold keys and list positions and, in between, names of union members that the
YAML does not have. A path is walked along the types and along the nodes of the file at once: the
types say which parts are no keys, which keys are allowed and what they mean; the nodes say the
line and column.
"""

from __future__ import annotations

import types
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag
from pydantic.fields import FieldInfo

from graftwork.spec.documentation import documentation
from graftwork.spec.nodes import Node
from graftwork.spec.workflow import Workflow

Loc = tuple[int | str, ...]


class Place:
    """One place: its type, its node, its dotted key and where it stands.

    Attributes:
        node: The value in the file, or None where there is none.
        type: The type that is due, without `| None`.
        model: The innermost model on the way, and `outer` the one around it.
        name: The innermost key on the way that is a field of `model`.
        spot: Where to point for a wrong value: at the value, or at its key if it begins below.
        key_spot: Where the key stands.
        keys: Keys and list positions on the way.
        choice: Length of the path, labels included, up to an untagged union on the way.
    """

    def __init__(self, root: Node, loc: Loc = ()) -> None:
        self.node: Node | None = root
        self.type: Any = Workflow
        self.model: type[BaseModel] = Workflow
        self.outer: type[BaseModel] = Workflow
        self.name = ""
        self.spot = root.spot
        self.key_spot = root.spot
        self.keys: list[str] = []
        self.choice: int | None = None
        for depth, part in enumerate(loc):
            self._step(part, depth)
        self.type, _ = unwrap(self.type)

    @property
    def key(self) -> str:
        """Dotted key of the place."""
        return ".".join(self.keys)

    def _step(self, part: int | str, depth: int) -> None:
        self.type, tagged = unwrap(self.type)
        found = members(self.type)
        if part == "[key]":
            self.spot = self.key_spot
        elif found and tagged:
            self.type = _tagged(found, part)
        elif found:
            self.choice = depth
            self.type = _labelled(found, str(part))
        else:
            self.enter(part)

    def enter(self, part: int | str) -> None:
        """Go on to a key or an item."""
        self._descend_type(part)
        self._descend_node(part)

    @property
    def meaning(self) -> str:
        """What the innermost key on the way means."""
        return documentation(self.model).get(self.name, "")

    @property
    def written(self) -> str:
        """The value as it is written, where it is a scalar."""
        return self.node.text if self.node is not None else ""

    def _descend_type(self, part: int | str) -> None:
        kind, self.type = self.type, None
        if is_model(kind):
            self.outer, self.model = self.model, kind
            self.name = str(part)
            field = fields(kind).get(self.name)
            self.type = _annotation(field) if field else None
        elif get_origin(kind) is dict:
            self.type = get_args(kind)[1]
        elif get_origin(kind) in (list, tuple):
            self.type = get_args(kind)[0]

    def _descend_node(self, part: int | str) -> None:
        self.keys.append(str(part))
        node, self.node = self.node, None
        if node is None:
            return
        if isinstance(node.value, dict) and part in node.value:
            self.node = node.value[str(part)]
            self.key_spot = node.keys[str(part)]
            below = self.node.block or self.node.value is None
            self.spot = self.key_spot if below else self.node.spot
        elif isinstance(node.value, list) and isinstance(part, int) and part < len(node.value):
            self.node = node.value[part]
            self.key_spot = self.spot = self.node.spot


def is_model(kind: object) -> bool:
    """Whether a type is a part of the language with keys of its own."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a model by the keys that they have in the YAML."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _annotation(field: FieldInfo) -> Any:  # noqa: ANN401 - a type
    """The field's type with what pydantic took out of its Annotated put back."""
    metadata = [*field.metadata, *([field] if field.discriminator else [])]
    return Annotated[(field.annotation, *metadata)] if metadata else field.annotation


def unwrap(kind: Any) -> tuple[Any, bool]:  # noqa: ANN401 - types
    """A type without Annotated and `| None`, and whether it is a union told apart by a tag."""
    tagged = False
    while True:
        if get_origin(kind) is Annotated:
            kind, *metadata = get_args(kind)
            tagged = tagged or any(getattr(item, "discriminator", None) for item in metadata)
            continue
        present = [item for item in members(kind) if item is not type(None)]
        if len(present) == 1:
            kind = present[0]
            continue
        return kind, tagged


def members(kind: Any) -> tuple[Any, ...]:  # noqa: ANN401 - types
    """The members of a union; none for another type."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else ()


def _tagged(found: tuple[Any, ...], tag: int | str) -> Any:  # noqa: ANN401 - types
    """The member of a tagged union that a tag stands for."""
    for member in found:
        inner, *metadata = get_args(member) if get_origin(member) is Annotated else (member,)
        if any(isinstance(item, Tag) and item.tag == tag for item in metadata):
            return inner
        if is_model(inner) and tag in tags(inner):
            return inner
    return None


def tags(model: type[BaseModel]) -> tuple[str, ...]:
    """The names or sources that a member of a tagged union goes by."""
    for name in ("name", "source"):
        field = model.model_fields.get(name)
        if field is not None and get_args(field.annotation):
            return get_args(field.annotation)
    return ()


def _labelled(found: tuple[Any, ...], label: str) -> Any:  # noqa: ANN401 - types
    """The member of an untagged union that pydantic's label stands for, such as `list[str]`."""
    for member in found:
        inner, _ = unwrap(member)
        name = getattr(get_origin(inner) or inner, "__name__", "?")
        if label == name or f"{name}[" in label:
            return inner
    return None
