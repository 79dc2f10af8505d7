"""What every word of the language is built from: strict models, papers, references, identity.

A field is part of a stage's *identity* unless it is marked `EXECUTION`: identity is what makes
the result and is fingerprinted, execution is where and how the stage runs and is not. A field
marked `LATER` is part of it only where it is not at its default, so that artifacts from before it
was added stay what they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetJsonSchemaHandler,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from graftwork.spec.documentation import documentation

Product = Literal["corpus", "documents", "tokens", "model", "evaluation", "verdict"]
Contract = Literal["exact", "approximate", "none"]


class Strict(BaseModel):
    """A part of the language: unknown keys are errors, values are frozen, nothing is coerced."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        # Only the root is ever validated, and it builds its parts: half the import time saved.
        defer_build=True,
    )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The schema with the docstrings of the fields as descriptions."""
        found = handler(schema)
        properties = handler.resolve_ref_schema(found).get("properties", {})
        for key, text in documentation(cls).items():
            if key in properties:
                properties[key].setdefault("description", text)
        return found


@dataclass(frozen=True, slots=True)
class Paper:
    """Where a method comes from; reaches the catalogue, the record and the report."""

    title: str
    arxiv: str
    section: str = ""
    number: str = ""

    @property
    def url(self) -> str:
        """The paper's page."""
        return f"https://arxiv.org/abs/{self.arxiv}"


class Method(Strict):
    """The word of a method: its name and parameters. Its deed is in `graftwork_train`.

    `revision` is the version of the deed: raise it when the same parameters give another result,
    so that artifacts of the old code are not taken for the new one's.
    """

    paper: ClassVar[Paper | None] = None
    contract: ClassVar[Contract | None] = None
    revision: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Reference:
    """Marks a string field that names a corpus or a stage, and says what may stand there."""

    products: frozenset[Product]

    def __str__(self) -> str:
        return " or ".join(sorted(self.products))


class _Execution:
    """Marks a field that says how a stage runs, never what it makes."""

    def __repr__(self) -> str:
        return "EXECUTION"


EXECUTION = _Execution()


class _Later:
    """Marks a field that the language got later: its default makes what was made without it."""

    def __repr__(self) -> str:
        return "LATER"


LATER = _Later()


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


# A list of the YAML becomes a tuple of a frozen model; strictness alone would refuse the list.
AS_TUPLE = BeforeValidator(_as_tuple)

CorpusOrDocuments = Annotated[str, Reference(frozenset({"corpus", "documents"}))]
TokensRef = Annotated[str, Reference(frozenset({"tokens"}))]
ModelRef = Annotated[str, Reference(frozenset({"model"}))]
TokenizerRef = Annotated[str, Reference(frozenset({"tokens", "model"}))]
ArmRef = Annotated[str, Reference(frozenset({"model", "evaluation"}))]

NAME = r"[a-z]([a-z0-9-]*[a-z0-9])?"
_NAME = re.compile(NAME)
# RayJob names hold at most 47 characters, of which a run and attempt suffix takes 17.
NAME_LENGTH = 30


def check_name(name: str) -> str:
    """A name that Kubernetes accepts as part of an object's name.

    Raises:
        ValueError: other characters than a-z, 0-9 and '-', or too long.
    """
    if len(name) > NAME_LENGTH:
        raise ValueError(f"{name!r} is {len(name)} characters long; use at most {NAME_LENGTH}")
    if not _NAME.fullmatch(name):
        like = proposal(name)
        remedy = f"{like!r} would do" if like else "write for example 'base-2'"
        raise ValueError(
            f"{name!r} is not a name that Kubernetes accepts: "
            f"a-z, 0-9 and '-', beginning with a letter; {remedy}"
        )
    return name


def proposal(name: str) -> str:
    """The acceptable name that is most like `name`, or an empty text where there is none."""
    like = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-").lstrip("0123456789-")
    return like[:NAME_LENGTH].rstrip("-")


Name = Annotated[str, AfterValidator(check_name)]


Path = tuple[str | int, ...]


def references(part: BaseModel, path: Path = ()) -> Iterator[tuple[Path, str, Reference]]:
    """Every reference in `part`: its path in the model, the name it holds, what may stand there."""
    for field_name, key, reference in _reference_fields(type(part)):
        value = getattr(part, field_name)
        if reference is not None:
            yield from _named(value, (*path, key), reference)
        elif isinstance(value, BaseModel):
            yield from references(value, (*path, key))


@cache
def _reference_fields(model: type[BaseModel]) -> tuple[tuple[str, str, Reference | None], ...]:
    """A model's fields: attribute, key in the YAML, and the mark if they hold references."""
    return tuple(
        (name, field.alias or name, _find_reference(field.metadata, field.annotation))
        for name, field in model.model_fields.items()
    )


def _named(
    value: object, path: Path, reference: Reference
) -> Iterator[tuple[Path, str, Reference]]:
    if isinstance(value, str):
        yield path, value, reference
    elif isinstance(value, tuple | list):
        for index, name in enumerate(value):
            yield (*path, index), name, reference
    elif isinstance(value, dict):
        for key, name in value.items():
            yield (*path, key), name, reference


def _find_reference(metadata: list[Any], annotation: object) -> Reference | None:
    for item in metadata:
        if isinstance(item, Reference):
            return item
    for argument in get_args(annotation):
        found = _find_reference(list(getattr(argument, "__metadata__", ())), argument)
        if found is not None:
            return found
    return None


def identity(part: BaseModel) -> dict[str, Any]:
    """What of `part` makes the result: every field but those marked EXECUTION, as plain data.

    Those marked LATER are left out at their default.
    """
    kept: dict[str, Any] = {}
    for field_name, field in type(part).model_fields.items():
        if any(isinstance(item, _Execution) for item in field.metadata):
            continue
        value = getattr(part, field_name)
        if value == field.default and any(isinstance(item, _Later) for item in field.metadata):
            continue
        kept[field.alias or field_name] = _plain(part, field_name, value)
    revision = getattr(type(part), "revision", None)
    if revision is not None:
        kept["revision"] = revision
    return kept


def _plain(part: BaseModel, field_name: str, value: object) -> Any:  # noqa: ANN401 - plain data
    if isinstance(value, BaseModel):
        return identity(value)
    if isinstance(value, tuple | list) and any(isinstance(item, BaseModel) for item in value):
        return [_plain(part, field_name, item) for item in value]
    if isinstance(value, dict) and any(isinstance(item, BaseModel) for item in value.values()):
        return {key: _plain(part, field_name, item) for key, item in value.items()}
    return part.model_dump(mode="json", include={field_name}, by_alias=True).popitem()[1]
