from __future__ import annotations

import pytest

from graftwork.errors import SpecError
from graftwork.plan import plan

MODEL = {"layers": 4, "width": 64, "heads": 2, "ffn": 128}


def scratch(budget):
    return {"scratch": {"train": {"data": "tokens", "model": MODEL, "budget": budget}}}


def compare(**more):
    return {"verdict": {"compare": {"arms": {"g_stack": "large", "scratch": "scratch"}, **more}}}


def test_arms_at_equal_flops_are_accepted(build):
    assert not [note for note in plan(build()).notes if note.step == "verdict"]


def test_arms_that_cost_unlike_are_refused_with_their_costs_and_the_budget_to_write(build):
    with pytest.raises(SpecError) as caught:
        plan(build(scratch("20 steps")))
    (problem,) = caught.value.problems
    assert problem.where.key == "stages.verdict.compare.arms"
    assert "g_stack 112B, scratch 53.4B FLOPs" in problem.what
    assert "tolerance of 2%" in problem.what
    assert "'scratch' 'budget: flops of large'" in problem.remedy


def test_the_cheaper_arm_is_the_one_to_change(build):
    with pytest.raises(SpecError, match="'g_stack' 'budget: flops of scratch'"):
        plan(build(scratch("80 steps")))


def test_a_tolerance_is_a_share_of_the_dearest_arm(build):
    plan(build({**scratch("40 steps"), **compare(tolerance=0.05)}))
    with pytest.raises(SpecError):
        plan(build({**scratch("40 steps"), **compare(tolerance=0.04)}))


def test_as_they_are_takes_any_arms(build):
    plan(build({**scratch("20 steps"), **compare(at="as_they_are")}))


def test_equal_tokens_counts_those_of_the_ancestors(build):
    plan(build({**scratch("60 steps"), **compare(at="equal_tokens")}))
    with pytest.raises(SpecError, match="equal tokens"):
        plan(build({**scratch("20 steps"), **compare(at="equal_tokens")}))


def test_arms_with_a_budget_in_epochs_are_warned_of(build):
    (note,) = [n for n in plan(build(scratch("2 epochs"))).notes if n.step == "verdict"]
    assert note.level == "warning"
    assert "budget of scratch is in epochs" in note.text
