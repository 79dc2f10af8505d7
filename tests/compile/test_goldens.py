"""The compiled pipeline of every spec that ships, reviewed in the same diff as its source.

`make goldens` writes them again; CI never does.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from graftwork.compile import compile_plan
from graftwork.planned import plan_files

OVERLAYS = Path("specs/overlays")
SPECS = sorted(p for p in Path("specs").rglob("*.yaml") if OVERLAYS not in p.parents)
GOLDENS = Path("tests/goldens")
WRITE = os.environ.get("GOLDENS") == "write"


def golden_of(spec: Path) -> Path:
    return GOLDENS / spec.relative_to("specs").with_suffix(".ir.yaml")


def documents(text: str) -> list[dict]:
    pipeline, platform = yaml.safe_load_all(text)
    # A newer kfp of the same series may compile the same pipeline.
    pipeline.pop("sdkVersion")
    return [pipeline, platform]


def test_goldens_are_not_written_in_ci():
    assert not (WRITE and os.environ.get("CI"))


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_spec_compiles_to_its_golden(spec):
    text = compile_plan(plan_files([spec]))
    path = golden_of(spec)
    if WRITE and not os.environ.get("CI"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.exists(), "run `make goldens` and review what it writes"
    assert documents(path.read_text(encoding="utf-8")) == documents(text)


def test_every_golden_has_its_spec():
    assert sorted(GOLDENS.rglob("*.ir.yaml")) == sorted(golden_of(spec) for spec in SPECS)
