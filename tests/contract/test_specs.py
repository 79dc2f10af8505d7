"""Every spec that ships is valid, plans, compiles, and is described by the JSON Schema."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from graftwork.compile import compile_plan
from graftwork.planned import plan_files
from graftwork.spec.files import read
from graftwork.spec.load import load
from graftwork.spec.nodes import plain
from graftwork.spec.schema import json_schema

SPECS = Path(__file__).resolve().parents[2] / "specs"


def specs() -> list[Path]:
    found = [path for pattern in ("*.yaml", "*.yml") for path in SPECS.rglob(pattern)]
    return sorted(path for path in found if SPECS / "overlays" not in path.parents)


@cache
def schema() -> dict[str, Any]:
    return json.loads(json.dumps(json_schema()))


def test_there_are_specs():
    assert SPECS / "quickstart.yaml" in specs()


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("path", specs(), ids=lambda p: str(p.relative_to(SPECS)))
def test_spec_loads_plans_and_compiles(path):
    workflow = load([path])
    assert workflow.metadata.title, "a spec that ships says in one line what it is"
    planned = plan_files([path])
    assert planned.steps
    assert compile_plan(planned)


@pytest.mark.parametrize("path", specs(), ids=lambda p: str(p.relative_to(SPECS)))
def test_spec_is_valid_by_the_json_schema(path):
    # Read as YAML 1.2, as editors do: in PyYAML's YAML 1.1, 1e-3 is a text.
    data = plain(read(path))
    errors = list(jsonschema.Draft202012Validator(schema()).iter_errors(data))
    assert not errors, [f"{list(e.absolute_path)}: {e.message}" for e in errors]


@pytest.mark.parametrize("path", specs(), ids=lambda p: str(p.relative_to(SPECS)))
def test_spec_says_what_it_is_for_before_its_first_key(path):
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("#")


def test_every_default_of_the_schema_is_valid_by_the_schema():
    checked = 0
    for name, owner in schema()["$defs"].items():
        for key, part in owner.get("properties", {}).items():
            if part.get("default") is not None:
                own = {"$defs": schema()["$defs"], **part}
                errors = list(jsonschema.Draft202012Validator(own).iter_errors(part["default"]))
                assert not errors, f"{name}.{key}: {errors[0].message}"
                checked += 1
    assert checked > 20
