"""The language as JSON Schema, for editors that complete and check specs while they are written.

The words give most of it. Three things stand outside the words, because they are gone once a spec
is loaded, and are added here: `defaults`, `matrix`, and `${variable}` in place of any value of a
stage. Where a spec has `defaults`, its stages may leave out what the defaults give, so stages
are checked against twins of their definitions in which nothing is required.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from graftwork.spec.base import NAME, NAME_LENGTH
from graftwork.spec.stages import KINDS
from graftwork.spec.workflow import Workflow

Schema = dict[str, Any]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REF = "#/$defs/"
_PARTIAL = "Partial"
_VARIABLE = {"type": "string", "pattern": r"\$\{[^}]+\}", "title": "A variable of the matrix"}
_NAMES = {"pattern": f"^{NAME}$", "maxLength": NAME_LENGTH}
_EXAMPLE = {
    "metadata": {"name": "first"},
    "corpora": {"python": {"source": "stdlib"}},
    "stages": {
        "tokens": {"prepare": {"from": "python", "context": 128}},
        "base": {
            "train": {
                "data": "tokens",
                "model": {"layers": 2, "width": 64, "heads": 2},
                "budget": "100 steps",
            }
        },
    },
}


class Generator(GenerateJsonSchema):
    """Writes the default of a quantity as the text that a spec would hold."""

    def encode_default(self, dft: object) -> Any:  # noqa: ANN401 - any JSON
        """A default as JSON."""
        return super().encode_default(getattr(dft, "text", dft))


def json_schema() -> Schema:
    """JSON Schema (2020-12) of a spec, with a description for every key."""
    schema = Workflow.model_json_schema(by_alias=True, schema_generator=Generator)
    definitions: dict[str, Schema] = schema["$defs"]
    for owner in (schema, *definitions.values()):
        _describe(owner, definitions)
    _refine_stage(definitions["Stage"])
    of_stages = sorted(_reachable("Stage", definitions))
    for name in of_stages:
        _allow_variables(definitions[name])
    for name in of_stages:
        definitions[name + _PARTIAL] = _partial(definitions[name])
    _refine_root(schema)
    return {"$schema": _DIALECT, "title": "graftwork workflow", **schema}


def _describe(owner: Schema, definitions: dict[str, Schema]) -> None:
    """Descriptions on one line; a key without one takes that of the definition it leads to."""
    if "description" in owner:
        owner["description"] = _line(owner["description"])
    for key, value in owner.get("properties", {}).items():
        text = value.get("description")
        if text is None:
            found = next(_references(value), None)
            text = definitions[found].get("description", "") if found else ""
        if not text and "const" in value:
            text = f"{value['const']}: {owner.get('description', '')}"
        value["description"] = _line(text)
        value["title"] = key


def _line(text: str) -> str:
    return " ".join(text.split())


def _references(part: Any) -> Iterator[str]:  # noqa: ANN401 - any JSON
    """Names of the definitions that a part of the schema leads to."""
    if isinstance(part, dict):
        reference = part.get("$ref")
        if isinstance(reference, str):
            yield reference.removeprefix(_REF)
        for value in part.values():
            yield from _references(value)
    elif isinstance(part, list):
        for value in part:
            yield from _references(value)


def _reachable(name: str, definitions: dict[str, Schema]) -> set[str]:
    found: set[str] = set()
    open_names = [name]
    while open_names:
        current = open_names.pop()
        if current not in found:
            found.add(current)
            open_names.extend(_references(definitions[current]))
    return found


def _refine_stage(stage: Schema) -> None:
    """A stage has exactly one kind, and may have a matrix."""
    for kind in KINDS:
        place = stage["properties"][kind]
        place.pop("default", None)
        place["$ref"] = _REF + next(_references(place))
        place.pop("anyOf", None)
    stage["oneOf"] = [{"required": [kind]} for kind in KINDS]
    stage["properties"]["matrix"] = {
        "title": "matrix",
        "description": (
            "Make the stage once for every combination of these values; write ${variable} where "
            "a value belongs. Stages that name this one fan out with it."
        ),
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": "^[A-Za-z][A-Za-z0-9_]*$"},
        "additionalProperties": {
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {"type": ["string", "number", "boolean"]},
        },
        "examples": [{"lr": [1e-3, 3e-3]}],
    }


def _allow_variables(owner: Schema) -> None:
    """Let `${variable}` stand for every value that is no text anyway."""
    for key, value in owner.get("properties", {}).items():
        plain_text = value.get("type") == "string" and not {"enum", "const", "pattern"} & set(value)
        if plain_text or "$ref" in value or "const" in value or key == "matrix":
            continue
        outer = {k: value.pop(k) for k in ("title", "description", "default") if k in value}
        owner["properties"][key] = {**outer, "anyOf": [*_alternatives(value), _VARIABLE]}


def _alternatives(value: Schema) -> list[Schema]:
    return value["anyOf"] if set(value) == {"anyOf"} else [value]


def _partial(part: Any) -> Any:  # noqa: ANN401 - any JSON
    """A twin of a definition in which nothing is required, leading to such twins."""
    if isinstance(part, list):
        return [_partial(item) for item in part]
    if not isinstance(part, dict):
        return part
    twin = {}
    for key, value in part.items():
        if key == "$ref":
            twin[key] = value + _PARTIAL
        elif key == "oneOf" and all(set(item) == {"required"} for item in value):
            twin[key] = value
        elif key == "oneOf":
            # Without its name, a method could be any of them.
            twin["anyOf"] = _partial(value)
        elif key not in ("required", "discriminator"):
            twin[key] = _partial(value)
    return twin


def _refine_root(schema: Schema) -> None:
    """Names of parts, `defaults`, and stages that may lean on them."""
    properties = schema["properties"]
    for section in ("pools", "corpora", "stages"):
        properties[section]["propertyNames"] = _NAMES
    kinds = {kind: {"$ref": f"{_REF}{_body(schema, kind)}{_PARTIAL}"} for kind in KINDS}
    training = {
        "description": "For all stages that train: train, continue, sparsify, densify.",
        "$ref": f"{_REF}TrainingPartial",
    }
    properties["defaults"] = {
        "title": "defaults",
        "description": "What stages of a kind have in common; a stage's own keys come first.",
        "type": "object",
        "additionalProperties": False,
        "properties": {**kinds, "training": training},
        "examples": [{"training": {"batch": "64 sequences", "pool": "a100"}}],
    }
    schema["$defs"]["TrainingPartial"] = _training(schema["$defs"])
    schema["$defs"]["Metadata"]["properties"]["name"].update(_NAMES)
    full, partial = ({"$ref": f"{_REF}Stage{suffix}"} for suffix in ("", _PARTIAL))
    properties["stages"].pop("additionalProperties")
    schema["if"] = {"required": ["defaults"]}
    schema["then"] = {"properties": {"stages": {"additionalProperties": partial}}}
    schema["else"] = {"properties": {"stages": {"additionalProperties": full}}}
    schema["examples"] = [_EXAMPLE]


def _body(schema: Schema, kind: str) -> str:
    return next(_references(schema["$defs"]["Stage"]["properties"][kind]))


def _training(definitions: dict[str, Schema]) -> Schema:
    """What the definitions of all stages that train have in common."""
    names = ("Train", "Continue", "Sparsify", "Densify")
    bodies = [definitions[name + _PARTIAL] for name in names]
    shared = set.intersection(*(set(body["properties"]) for body in bodies))
    properties = {key: value for key, value in bodies[0]["properties"].items() if key in shared}
    return {**bodies[0], "title": "Training", "properties": properties}
