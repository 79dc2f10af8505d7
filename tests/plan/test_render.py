from __future__ import annotations

import io
import json

from rich.console import Console

from graftwork.plan import plan, status
from graftwork.plan.as_json import plan_as_json
from graftwork.plan.mermaid import plan_as_mermaid
from graftwork.plan.render import plan_as_table


def shown(made, states=None):
    console = Console(file=io.StringIO(), width=160, color_system=None)
    console.print(plan_as_table(made, states))
    return console.file.getvalue()


def test_the_table_has_a_line_a_step_with_its_size_and_cost(build):
    lines = shown(plan(build())).splitlines()
    (large,) = [line.split() for line in lines if line.startswith("large")]
    assert large[:6] == ["large", "continue", "205k", "41k", "53.4B", "112B"]


def test_the_table_ends_with_totals_and_notes(build):
    text = shown(plan(build()))
    assert "6 steps" in text
    assert "warning: stacked: by the paper's fit" in text


def test_a_budget_in_epochs_is_shown_as_such(build):
    gone = dict.fromkeys(("stacked", "large", "scratch", "verdict"))
    stage = {"data": "tokens", "model": {"layers": 1, "width": 64, "heads": 2}}
    text = shown(plan(build({**gone, "small": {"train": {**stage, "budget": "2 epochs"}}})))
    assert "2 epochs" in text
    assert "0 + ?" in text


def test_the_table_tells_what_is_done(build):
    made = plan(build())
    text = shown(made, status(made, lambda step: None))
    assert text.count("to do") == 6
    assert "0 done" in text


def test_the_json_holds_every_step_with_its_documented_keys(build):
    document = plan_as_json.__doc__
    data = json.loads(json.dumps(plan_as_json(plan(build(seeds=2)))))
    for step in data["steps"]:
        assert all(f"`{key}`" in document for key in step)
    assert all(f"`{key}`" in document for key in (*data, *data["totals"]))


def test_the_json_links_steps_by_name(build):
    data = plan_as_json(plan(build(seeds=2)))
    names = {step["name"] for step in data["steps"]}
    for step in data["steps"]:
        assert {source["step"] for source in step["inputs"]} <= names
        assert set(step["after"]) <= names
    (large,) = [step for step in data["steps"] if step["name"] == "large-s18"]
    assert large["uri"].startswith("runs/large/")


def test_the_graph_has_every_edge_once(build):
    lines = plan_as_mermaid(plan(build(seeds=2))).splitlines()
    assert lines[0] == "flowchart TD"
    assert "  corpus-python --> step-tokens" in lines
    assert "  step-small-s18 --> step-stacked-s18" in lines
    assert len(lines) == len(set(lines))


def test_the_graph_shows_a_condition_as_a_dotted_arrow(build):
    changes = {
        "large": {
            "continue": {"from": "stacked", "data": "tokens", "budget": "20 steps"},
            "when": "small.loss < 9",
        }
    }
    graph = plan_as_mermaid(plan(build(changes)))
    assert '  step-small -. "small.loss #lt; 9" .-> step-large' in graph
