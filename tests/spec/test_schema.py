import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from graftwork.spec.files import read
from graftwork.spec.nodes import plain
from graftwork.spec.schema import json_schema
from graftwork.spec.stages import KINDS

ROOT = Path(__file__).parents[2]
BASE = Path(__file__).parent / "invalid" / "base.yaml"
OVERLAYS = ROOT / "specs/overlays"
SPECS = sorted(p for p in (ROOT / "specs").rglob("*.yaml") if OVERLAYS not in p.parents)


@pytest.fixture(scope="module")
def schema():
    return json_schema()


@pytest.fixture(scope="module")
def validator(schema):
    return Draft202012Validator(schema)


def errors(validator, data):
    return [f"{list(error.path)}: {error.message}" for error in validator.iter_errors(data)]


def changed(**sections):
    data = plain(read(BASE))
    for dotted, value in sections.items():
        *path, last = dotted.split("__")
        place = data
        for key in path:
            place = place[key]
        place[last] = value
    return data


def test_it_is_a_schema(schema):
    Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema


@pytest.mark.parametrize("path", [BASE, *SPECS], ids=lambda path: path.name)
def test_every_spec_that_ships_is_valid(validator, path):
    assert errors(validator, plain(read(path))) == []


def test_its_own_examples_are_valid(schema, validator):
    for example in schema["examples"]:
        assert errors(validator, example) == []


def test_every_key_has_a_description_and_a_title(schema):
    for owner in (schema, *schema["$defs"].values()):
        for key, value in owner.get("properties", {}).items():
            assert value.get("description"), (owner.get("title"), key)
            assert value.get("title", key), (owner.get("title"), key)


def test_every_kind_of_stage_is_described(schema):
    assert set(KINDS) <= set(schema["$defs"]["Stage"]["properties"])
    assert set(KINDS) | {"training"} == set(schema["properties"]["defaults"]["properties"])


@pytest.mark.parametrize(
    "change",
    [
        {"sed": 3},
        {"seed": "x"},
        {"metadata__name": "Has Blanks"},
        {"stages__Upper": {"grow": {"from": "base", "method": {"name": "g_stack"}}}},
        {"stages__stacked": {"when": "base.loss < 3"}},
        {"stages__stacked__train": {}},
        {"stages__base__train__bacth": "16 sequences"},
        {"stages__base__train__budget": 100},
        {"stages__base__train__budget": "100 hours"},
        {"stages__base__train__batch": "16"},
        {"stages__base__train__schedule__name": "cosin"},
        {"stages__base__train__schedule__peak": -1},
        {"stages__base__train__schedule__warmup": "10"},
        {"stages__base__train__model__heads": 1.5},
        {"stages__base__train__model": {"layers": 2}},
        {"stages__stacked__grow__method__factor": 1},
        {"stages__stacked__grow__method__name": "g_stak"},
        {"stages__tokens__prepare__tokenizer": "words"},
        {"stages__tokens__prepare__from": 3},
        {"stages__base__matrix": {"lr": 3}},
        {"stages__base__matrix": {"l r": [3]}},
        {"defaults": {"trian": {}}},
        {"defaults": {"train": {"bacth": "x"}}},
        {"defaults": {"training": {"clip": -1}}},
        {"pools__gpu__memory": "64 gigabytes"},
        {"corpora__web__source": "json"},
        {"corpora__web": {"source": "jsonl"}},
        {"execution__deadline": 12},
    ],
    ids=str,
)
def test_a_wrong_spec_is_refused(validator, change):
    assert errors(validator, changed(**change))


@pytest.mark.parametrize(
    "change",
    [
        {"stages__base__train__schedule__peak": "${lr}"},
        {"stages__base__train__budget": "${n} steps"},
        {"stages__base__train__model__heads": "${heads}"},
        {"stages__base__train__document_mask": "${mask}"},
        {"stages__base__matrix": {"lr": [1e-3, 3e-3], "mask": [True, False]}},
        {"stages__tokens__prepare__tokenizer": "bytes"},
        {"stages__tokens__prepare__from": "python"},
        {"defaults": {"train": {"model": {"width": 64}, "schedule": {"peak": 0.1}}}},
    ],
    ids=str,
)
def test_what_a_spec_may_say_besides_is_accepted(validator, change):
    assert errors(validator, changed(**change)) == []


def test_with_defaults_a_stage_may_leave_out_what_they_give(validator):
    data = plain(read(BASE))
    del data["stages"]["base"]["train"]["budget"]
    assert errors(validator, data)
    assert errors(validator, data | {"defaults": {"train": {"budget": "10 steps"}}}) == []
