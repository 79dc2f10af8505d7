"""The shape of a method's file: it cites its paper, does one thing, and is short."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

FAMILIES = (
    "growth", "upcycling", "sparsity", "merging", "selection", "synthesis", "formats",
    "continuing", "schedules", "optimizers", "parametrisation", "repetition",
    "objectives", "committees",
)  # fmt: skip
PACKAGE = Path(__file__).resolve().parents[2] / "components/graftwork_train"
CITATION = re.compile(r"arXiv:\d{4}\.\d{4,5}")
DIFFERS = re.compile(r"^(Differs from the paper|As in the paper)\b", re.MULTILINE)


def method_files() -> list[Path]:
    """Files that register a deed; helpers of a family begin with an underscore or are base.py."""
    return sorted(
        path
        for family in FAMILIES
        for path in (PACKAGE / family).glob("*.py")
        if path.name not in ("__init__.py", "base.py") and not path.name.startswith("_")
    )


def public_functions(tree: ast.Module) -> list[ast.FunctionDef]:
    return [n for n in tree.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]


def registers(function: ast.FunctionDef) -> bool:
    return any(
        isinstance(d, ast.Attribute) and d.attr == "register" for d in function.decorator_list
    )


def test_each_family_has_methods():
    assert {path.parent.name for path in method_files()} == set(FAMILIES)


@pytest.mark.parametrize("path", method_files(), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_method_file_cites_its_paper_and_says_what_differs(path):
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert CITATION.search(docstring), "cite the paper as arXiv:dddd.ddddd"
    assert DIFFERS.search(docstring), (
        "say what differs: a line that begins with 'Differs from the paper' or 'As in the paper'"
    )


@pytest.mark.parametrize("path", method_files(), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_method_file_registers_one_function_named_as_the_file(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    registered = [function.name for function in public_functions(tree) if registers(function)]
    assert registered == [path.stem]


@pytest.mark.parametrize("path", method_files(), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_method_file_is_at_most_200_lines(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.parametrize("path", method_files(), ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_method_file_neither_reads_nor_logs(path):
    names = {
        node.id for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name)
    }  # fmt: skip
    assert not names & {"open", "print", "input", "logging", "logger", "subprocess"}
