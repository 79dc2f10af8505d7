import time
import tracemalloc

import pytest

from graftwork.errors import SpecError
from graftwork.spec.nodes import MAX_DEPTH, MAX_VALUES, parse, plain

BOMB = "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


def read(text):
    return plain(parse(text, "spec.yaml"))


def refusal(text):
    with pytest.raises(SpecError) as caught:
        parse(text, "spec.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-0", 0),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("+12", 12),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("12:30:45", "12:30:45"),
        ("2026-01-31", "2026-01-31"),
        ("2026-01-31T10:00:00Z", "2026-01-31T10:00:00Z"),
        ("on", "on"),
        ("yes", "yes"),
        ("No", "No"),
        ("True", True),
        ("FALSE", False),
        ("~", None),
        ("null", None),
        ("", None),
        ('"null"', "null"),
        ("'1e-3'", "1e-3"),
        ("!!str 12", "12"),
        ("! 12", "12"),
        ("=", "="),
        ("1.2.3", "1.2.3"),
        ("10%", "10%"),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(written, value):
    found = read(f"key: {written}")["key"]
    assert found == value
    assert type(found) is type(value)


def test_a_folded_text_is_one_text():
    assert read("a: >-\n  one\n  two\n") == {"a": "one two"}


def test_merge_keys_bring_what_is_not_there_already():
    text = "base: &b {x: 1, y: 2}\nmore: &m {y: 3, z: 4}\nuse: {<<: [*b, *m], x: 9}\n"
    assert read(text)["use"] == {"x": 9, "y": 2, "z": 4}


def test_a_quoted_merge_key_is_a_key():
    assert read('a: {"<<": {x: 1}}') == {"a": {"<<": {"x": 1}}}


def test_aliases_give_equal_values():
    assert read("a: &x {k: [1]}\nb: *x\n") == {"a": {"k": [1]}, "b": {"k": [1]}}


def test_places_count_from_one():
    node = parse("a:\n  b: [x,\n    y]\n", "spec.yaml").value["a"].value["b"]
    assert node.spot == ("spec.yaml", 2, 6)
    assert node.value[1].spot == ("spec.yaml", 3, 5)


def test_all_small_faults_of_a_file_are_told_at_once():
    message = refusal("a: .nan\nb: !x 1\na: 2\n1: 3\nc: 99999999999999999999\n")
    assert [line.split(":")[1] for line in message.splitlines() if line.startswith("spec")] == [
        "1",
        "2",
        "3",
        "4",
        "5",
    ]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[" * 100_000, id="lists"),
        pytest.param("{a: " * 100_000, id="mappings"),
        pytest.param("- " * 100_000, id="block lists"),
        pytest.param("? " * 100_000, id="keys"),
        pytest.param("".join(" " * i + "a:\n" for i in range(2_000)), id="block mappings"),
    ],
)
def test_deep_nesting_is_refused(text):
    assert f"nested more than {MAX_DEPTH} deep" in refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(BOMB, id="aliases of aliases"),
        pytest.param("a: [" + "1," * (MAX_VALUES + 1) + "]", id="a long list"),
        pytest.param("".join(f"k{i}: 1\n" for i in range(MAX_VALUES)), id="many keys"),
        pytest.param("a: &a [" + "1," * 500 + "]\nb: [" + "*a," * 500 + "]", id="many aliases"),
    ],
)
def test_more_values_than_a_spec_may_have_are_refused(text):
    assert f"more than {MAX_VALUES:,} values" in refusal(text)


def test_an_alias_bomb_costs_little_memory():
    tracemalloc.start()
    refusal(BOMB)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_large_number_of_digits_is_not_converted():
    started = time.process_time()
    assert "does not fit into 64 bits" in refusal(f"a: {'9' * 1_000_000}")
    assert "not a finite number" in refusal(f"a: {'9' * 100_000}.0")
    assert time.process_time() - started < 60


@pytest.mark.parametrize("text", ["a: \x00", "a: \x07bell", "\x1b[31m: 1"])
def test_control_characters_are_refused(text):
    assert "control character" in refusal(text)
