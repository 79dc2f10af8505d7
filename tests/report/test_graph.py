"""The graph: order by depth, nothing on top of anything else."""

from __future__ import annotations

import itertools
import random
import re

import pytest

from graftwork.report.graph import graph
from graftwork.report.layout import layered


def random_graph(count, seed):
    chance = random.Random(seed)
    nodes = [f"n{i}" for i in range(count)]
    edges = [
        (nodes[source], nodes[target])
        for target in range(1, count)
        for source in {chance.randrange(target) for _ in range(chance.randint(1, 3))}
    ]
    return nodes, edges


def test_a_chain_is_a_straight_line():
    layout = layered(["a", "b", "c"], [("a", "b"), ("b", "c")])
    assert dict(layout.layer) == {"a": 0, "b": 1, "c": 2}
    assert len(set(layout.place.values())) == 1


def test_the_longest_way_gives_the_layer():
    layout = layered(["a", "b", "c"], [("a", "b"), ("b", "c"), ("a", "c")])
    assert layout.layer["c"] == 2
    assert [stop[0] for stop in layout.routes["a", "c"]] == [0, 1, 2]


def test_edges_of_one_source_share_their_way():
    edges = [("a", "b"), ("b", "c"), ("c", "d"), ("a", "c"), ("a", "d")]
    layout = layered(["a", "b", "c", "d"], edges)
    assert layout.routes["a", "d"][1] == layout.routes["a", "c"][1]


def test_a_late_source_lies_next_to_its_first_user():
    layout = layered(["a", "b", "c", "late"], [("a", "b"), ("b", "c"), ("late", "c")])
    assert layout.layer["late"] == 1


def test_nothing_at_all_has_no_layers():
    assert layered([], []).layers == 0


@pytest.mark.parametrize(("count", "seed"), [(5, 0), (20, 1), (60, 2), (60, 3)])
def test_edges_go_forward_and_nodes_keep_their_distance(count, seed):
    nodes, edges = random_graph(count, seed)
    layout = layered(nodes, edges)
    for source, target in edges:
        assert layout.layer[source] < layout.layer[target]
    for layer in range(layout.layers):
        places = sorted(layout.place[n] for n in nodes if layout.layer[n] == layer)
        assert all(b - a >= 1 - 1e-6 for a, b in itertools.pairwise(places))


def boxes(html):
    found = []
    for x, y, inner in re.findall(r'translate\((\S+) (\S+)\)"(.*?)</a>', html):
        width, height = re.search(r'<rect width="(\S+)" height="(\S+)"', inner).groups()
        found.append((float(x), float(y), float(width), float(height)))
    return found


def wide_spec(spec, arms):
    model = {"layers": 2, "width": 32, "heads": 2}
    stages = {"tokens": spec["stages"]["tokens"]}
    for i in range(arms):
        stages[f"arm-with-a-long-name-{i}"] = {
            "train": {"data": "tokens", "model": model, "budget": f"{i + 1} steps"}
        }
        stages[f"eval-{i}"] = {"evaluate": {"from": f"arm-with-a-long-name-{i}", "data": "tokens"}}
    return {**spec, "stages": stages}


@pytest.mark.parametrize("arms", [2, 10, 30])
def test_no_node_covers_another_and_all_are_inside(make_run, spec, parse, arms):
    html = graph(make_run(wide_spec(spec, arms)))
    assert parse(html).problems == []
    width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', html).groups())
    found = boxes(html)
    assert len(found) == 1 + 2 * arms
    for i, (x, y, w, h) in enumerate(found):
        assert x >= 0
        assert y >= 0
        assert x + w <= width
        assert y + h <= height
        for a, b, c, d in found[i + 1 :]:
            assert x + w <= a or a + c <= x or y + h <= b or b + d <= y


def test_a_deep_chain_is_turned_to_fit_the_page(make_run, spec):
    model = {"layers": 2, "width": 32, "heads": 2}
    stages = {"tokens": spec["stages"]["tokens"]}
    stages["m-0"] = {"train": {"data": "tokens", "model": model, "budget": "1 steps"}}
    for i in range(1, 30):
        stages[f"m-{i}"] = {
            "continue": {"from": f"m-{i - 1}", "data": "tokens", "budget": "1 steps"}
        }
    html = graph(make_run({**spec, "stages": stages}))
    width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', html).groups())
    assert width < 1500 < height


def test_seeds_are_one_node_with_their_number(make_run):
    html = graph(make_run())
    assert len(boxes(html)) == 7
    assert "continue ×3 · done" in html


def test_nodes_say_their_state_in_words(make_run):
    def change(step, result):
        if step.stage == "large" and step.seed == 18:
            return type(result)("failed", "no memory")
        return result

    assert "continue ×3 · 1 failed, 2 done" in graph(make_run(change=change))
