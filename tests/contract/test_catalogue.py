"""Every word of a method has its deed, its proof and its place in the catalogue."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from functools import cache
from typing import Any, get_args

import pytest

from graftwork.spec.base import Method
from graftwork.spec.documentation import documentation
from graftwork.spec.stages import KINDS

# Family: (module and name of the union of words, package and name of the verb).
FAMILIES = {
    "growth": ("graftwork.spec.growth", "Growth", "graftwork_train.growth", "grow"),
    "upcycling": ("graftwork.spec.upcycling", "Upcycling", "graftwork_train.upcycling", "upcycle"),
    "sparsity": ("graftwork.spec.sparsity", "Sparsity", "graftwork_train.sparsity", "constrain"),
    "merging": ("graftwork.spec.merging", "Merging", "graftwork_train.merging", "merge"),
    "selection": ("graftwork.spec.selection", "Selection", "graftwork_train.selection", "select"),
    "synthesis": (
        "graftwork.spec.synthesis",
        "Synthesis",
        "graftwork_train.synthesis",
        "synthesize",
    ),
    "continuing": (
        "graftwork.spec.continuing",
        "Continuing",
        "graftwork_train.continuing",
        "proceed",
    ),
    "formats": ("graftwork.spec.formats", "Format", "graftwork_train.formats", "lay_out"),
    "parametrisation": (
        "graftwork.spec.parametrisation",
        "Parametrisation",
        "graftwork_train.parametrisation",
        "scale",
    ),
    "repetition": (
        "graftwork.spec.repetition",
        "Repetition",
        "graftwork_train.repetition",
        "regulate",
    ),
    "objectives": ("graftwork.spec.objective", "Objective", "graftwork_train.objectives", "pose"),
    "committees": (
        "graftwork.spec.committee",
        "Committee",
        "graftwork_train.committees",
        "combine",
    ),
    "schedules": ("graftwork.spec.schedule", "Schedule", "graftwork_train.schedules", "rate"),
    "optimizers": ("graftwork.spec.optimizer", "Optimizer", "graftwork_train.optimizers", "build"),
}


def members(union: Any) -> set[type[Method]]:
    """The classes of a union, of an annotated union, or the class itself."""
    if isinstance(union, type):
        return {union} if issubclass(union, Method) else set()
    return {word for part in get_args(union) for word in members(part)}


def words(family: str) -> set[type[Method]]:
    module, union, _, _ = FAMILIES[family]
    return members(getattr(importlib.import_module(module), union))


def imported(package: str) -> Any:
    """The module that holds a package's verb, with all of the package's modules registered."""
    path = importlib.import_module(package).__path__
    for module in pkgutil.iter_modules(path):
        importlib.import_module(f"{package}.{module.name}")
    return importlib.import_module(f"{package}.base")


def registry(family: str) -> dict[type, Any]:
    _, _, package, verb = FAMILIES[family]
    dispatcher = getattr(imported(package), verb)
    return {word: deed for word, deed in dispatcher.registry.items() if word is not object}


def name_of(word: type[Method]) -> str:
    return get_args(word.model_fields["name"].annotation)[0]


def all_words() -> list[tuple[str, type[Method]]]:
    return [(f, word) for f in FAMILIES for word in sorted(words(f), key=name_of)]


@cache
def catalogue() -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "graftwork.cli", "methods", "--json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.mark.parametrize("family", FAMILIES)
def test_words_and_deeds_of_a_family_are_the_same_set(family):
    assert words(family) == set(registry(family))


@pytest.mark.parametrize(("family", "word"), all_words(), ids=lambda v: getattr(v, "__name__", v))
def test_a_deed_lies_in_the_file_named_as_its_word(family, word):
    deed = registry(family)[word]
    assert deed.__module__ == f"{FAMILIES[family][2]}.{name_of(word)}"


@pytest.mark.parametrize(("family", "word"), all_words(), ids=lambda v: getattr(v, "__name__", v))
def test_a_method_has_a_test_file_of_its_own(root, family, word):
    path = root / "tests" / family / f"test_{name_of(word)}.py"
    assert path.is_file(), f"write {path.relative_to(root)}"
    assert "def test_" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(("family", "word"), all_words(), ids=lambda v: getattr(v, "__name__", v))
def test_a_word_cites_its_paper_and_describes_its_fields(family, word):
    assert word.__doc__
    assert word.__doc__.rstrip().endswith(".")
    assert word.paper is not None, "every method of the language comes from somewhere"
    assert word.revision >= 1
    undescribed = [
        field
        for field, info in word.model_fields.items()
        if field != "name" and not documentation(word).get(info.alias or field)
    ]
    assert not undescribed


@pytest.mark.parametrize(("family", "word"), all_words(), ids=lambda v: getattr(v, "__name__", v))
def test_a_word_is_in_the_catalogue_with_its_paper(family, word):
    entries = [entry for entry in catalogue() if entry["name"] == name_of(word)]
    assert len(entries) == 1
    assert word.paper.arxiv in json.dumps(entries[0])


def test_the_catalogue_lists_nothing_else():
    assert {entry["name"] for entry in catalogue()} == {name_of(word) for _, word in all_words()}


def test_names_of_methods_are_unique():
    names = [name_of(word) for _, word in all_words()]
    assert len(names) == len(set(names))


def test_every_kind_of_stage_is_performed():
    perform = imported("graftwork_train.stages").perform
    assert set(KINDS.values()) == set(perform.registry) - {object}
