from pathlib import Path

import pytest

from graftwork.spec.base import references
from graftwork.spec.graph import (
    Edge,
    architectures,
    edges,
    sort,
    tokenizer_stage,
    tokens_of,
    topological_order,
    vocabulary,
)
from graftwork.spec.load import load
from graftwork.spec.variables import ARMS, REFERENCE_KEYS

BASE = Path(__file__).parent / "invalid" / "base.yaml"


@pytest.fixture(scope="module")
def workflow():
    return load([BASE])


def test_edges_say_what_is_named_where_and_why(workflow):
    found = edges(workflow)
    assert found["picked"] == [Edge("from.0", "web", "corpus")]
    assert found["tokens"] == [
        Edge("from.0", "picked", "documents"),
        Edge("from.1", "python", "corpus"),
    ]
    assert found["other"][-1] == Edge("tokenizer.from", "tokens", "tokens")
    assert Edge("replay.data", "tokens", "tokens") in found["large"]
    assert Edge("budget", "base", "model", "budget") in found["sparse"]
    assert Edge("when", "sparse", "model", "when") in found["dense"]
    assert Edge("arms.grown", "judged", "evaluation") in found["verdict"]


def test_every_stage_comes_after_all_that_it_needs(workflow):
    order = topological_order(workflow)
    assert sorted(order) == sorted(workflow.stages)
    for name, found in edges(workflow).items():
        for edge in found:
            if edge.target in workflow.stages:
                assert order.index(edge.target) < order.index(name)


def test_otherwise_the_order_is_that_of_the_file():
    assert sort({"c": [], "a": ["b"], "b": [], "d": []}) == (["c", "b", "a", "d"], [])


def test_a_circle_is_named_in_its_order():
    order, circles = sort({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"], "e": []})
    assert circles == [["a", "b", "c", "a"]]
    assert order == ["e"]


def test_a_chain_of_ten_thousand_stages_needs_no_recursion():
    needs = {str(i): [str(i + 1)] for i in range(10_000)} | {"10000": []}
    order, circles = sort(needs)
    assert (order[0], order[-1], circles) == ("10000", "0", [])


def test_architectures_follow_the_methods(workflow):
    found = architectures(workflow)
    assert found["base"].layers == 2
    assert found["large"].layers == 4
    assert found["experts"].experts.count == 8
    assert found["dense"] == found["sparse"]
    assert "judged" not in found


def test_a_model_has_the_tokens_it_was_trained_on_last(workflow):
    assert tokens_of(workflow, "base") == "tokens"
    assert tokens_of(workflow, "stacked") == "tokens"
    assert tokens_of(workflow, "experts") == "other"


def test_a_tokenizer_taken_over_is_the_one_of_its_maker(workflow):
    assert tokenizer_stage(workflow, "other") == "tokens"
    assert vocabulary(workflow, "other") == vocabulary(workflow, "tokens") == 512


def test_all_references_lie_under_the_keys_that_a_matrix_looks_at(workflow):
    for stage in workflow.stages.values():
        for path, _, _ in references(stage.body):
            named = {part for part in path if isinstance(part, str)}
            assert named & (REFERENCE_KEYS | {ARMS}), path
