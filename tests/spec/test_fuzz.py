"""Whatever stands in a file, a spec is loaded or refused with problems that have remedies."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from graftwork.errors import SpecError
from graftwork.spec.load import load

BASE = (Path(__file__).parent / "invalid" / "base.yaml").read_text(encoding="utf-8")
LINES = BASE.splitlines()
PIECES = [
    *("{", "}", "[", "]", ":", ",", '"', "'", "&a", "*a", "- ", "? ", "\t", "\n", "  ", "!x", "|"),
    *(">", "%", "@", "#", "---\n", "\x00", "\ufeff", "ä", "null", "true", "1e9", "-1", ".inf"),
    *("${x}", "$${x}", "base[n=1]", "flops of base", "<<: *a", "matrix: {a: [1, 2]}", "name: "),
]
VALUES = [
    *("null", "[]", "{}", "3", "-1", '"x"', "[1]", "{a: 1}", "true", "1e400", "x", "0", "1%"),
    *("flops of large", "10 steps", "large", "tokens", "web", "[large, base]", "{name: x}"),
    *("{from: web}", "{name: [1]}", "{source: [1]}", "{train: {a: 1}}", "${n}", "base[n=1]"),
]
KEYS = [
    *("stages", "pools", "defaults", "corpora.web", "metadata", "stages.base", "seeds"),
    *("stages.base.train", "stages.tokens.prepare.tokenizer", "stages.base.matrix"),
    *("stages.tokens.prepare.from.0", "stages.verdict.compare.arms", "defaults.training"),
]

quick = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def loads_or_refuses(path, sets=()):
    try:
        load([path], sets)
    except SpecError as error:
        for problem in error.problems:
            assert problem.remedy
            assert "Input should" not in problem.what


@pytest.fixture
def path(tmp_path):
    return tmp_path / "spec.yaml"


@quick
@given(content=st.binary(max_size=300))
@example(content=b"\xff\xfe")
@example(content=b"a: \xed\xa0\x80")
def test_any_bytes_load_or_are_refused(path, content):
    path.write_bytes(content)
    loads_or_refuses(path)


@quick
@given(text=st.text(st.characters(codec="utf-8"), max_size=200))
def test_any_text_loads_or_is_refused(path, text):
    path.write_text(text, encoding="utf-8")
    loads_or_refuses(path)


@quick
@given(pieces=st.lists(st.sampled_from([*PIECES, *VALUES, "a", "b"]), max_size=30))
def test_any_pieces_of_yaml_load_or_are_refused(path, pieces):
    path.write_text("".join(pieces), encoding="utf-8")
    loads_or_refuses(path)


@st.composite
def mutated(draw):
    """The base with some lines dropped, moved or given other values, and pieces put in."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 5))):
        place = draw(st.integers(0, len(lines) - 1))
        change = draw(st.sampled_from(["drop", "copy", "value", "value", "piece"]))
        if change == "drop":
            del lines[place]
        elif change == "copy":
            lines.insert(place, draw(st.sampled_from(LINES)))
        elif change == "value":
            key, colon, _ = lines[place].partition(": ")
            lines[place] = f"{key}{colon or ': '}{draw(st.sampled_from(VALUES))}"
        else:
            column = draw(st.integers(0, len(lines[place])))
            piece = draw(st.sampled_from(PIECES))
            lines[place] = lines[place][:column] + piece + lines[place][column:]
    return "\n".join(lines)


@settings(quick, max_examples=120)
@given(text=mutated())
def test_mutated_specs_load_or_are_refused(path, text):
    path.write_text(text, encoding="utf-8")
    loads_or_refuses(path)


@settings(quick, max_examples=60)
@given(
    key=st.sampled_from(KEYS),
    below=st.sampled_from(["", ".x", ".from", ".name", ".0", "..", r"\.a"]),
    value=st.sampled_from(VALUES) | st.text(max_size=10),
)
def test_any_set_loads_or_is_refused(path, key, below, value):
    path.write_text(BASE, encoding="utf-8")
    loads_or_refuses(path, [f"{key}{below}={value}"])
