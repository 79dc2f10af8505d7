"""The layers: what may import what, proven by a static tool and by processes that lack the rest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

BLOCK = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None
"""
LIGHT = (
    BLOCK
    + """
import importlib, pkgutil
import graftwork
for module in pkgutil.walk_packages(graftwork.__path__, "graftwork."):
    importlib.import_module(module.name)
from graftwork.compile import compile_plan
from graftwork.planned import plan_files
print(len(compile_plan(plan_files([sys.argv[1]]))))
"""
)
HEAVY = (
    BLOCK
    + """
import importlib, pkgutil
import graftwork_train
for module in pkgutil.walk_packages(graftwork_train.__path__, "graftwork_train."):
    importlib.import_module(module.name)
print("imported")
"""
)
QUICK = """
import sys
from graftwork.cli import main
try:
    main({arguments!r})
except SystemExit as end:
    assert not end.code, end.code
heavy = {{"kfp", "torch", "ray", "fsspec", "kubernetes", "numpy"}} & set(sys.modules)
assert not heavy, heavy
"""


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "SPEC": arguments[0] if arguments else ""},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_import_contract_is_kept(root):
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_control_plane_plans_and_compiles_where_torch_and_ray_are_missing(root):
    blocked = ("torch", "ray", "graftwork_train", "numpy", "pyarrow", "transformers", "tokenizers")
    size = run(LIGHT.format(blocked=blocked), str(root / "specs/quickstart.yaml"))
    assert int(size) > 1000


@pytest.mark.slow
def test_what_runs_in_containers_imports_where_kfp_is_missing():
    blocked = ("kfp", "kubernetes", "graftwork.compile", "graftwork.plan", "graftwork.cli")
    assert run(HEAVY.format(blocked=blocked)).strip().endswith("imported")


def test_language_imports_where_everything_but_pydantic_and_yaml_is_missing(root):
    blocked = ("kfp", "kubernetes", "fsspec", "rich", "torch", "ray", "numpy", "prometheus_client")
    code = BLOCK.format(blocked=blocked) + (
        "from graftwork.spec.load import load\nprint(load([sys.argv[1]]).metadata.name)"
    )
    assert run(code, str(root / "specs/quickstart.yaml")).strip() == "quickstart"


def test_help_and_check_load_nothing_heavy(root):
    run(QUICK.format(arguments=["--help"]))
    run(QUICK.format(arguments=["check", str(root / "specs/quickstart.yaml")]))
