from __future__ import annotations

import pytest
import yaml

from graftwork.compile import compile_noted, compile_plan
from graftwork.compile.limits import argo_bytes, step_sizes
from graftwork.errors import SpecError


def pipeline(plan):
    return next(iter(yaml.safe_load_all(compile_plan(plan))))


# What KFP 2.17's own compiler makes of these very plans, as compact JSON.
@pytest.mark.parametrize(
    ("count", "measured"), [(4, 23092), (20, 71826), (80, 255066), (200, 622794)]
)
def test_the_prediction_is_what_kfp_makes_of_it(many, count, measured):
    assert argo_bytes(pipeline(many(count))) == pytest.approx(measured, rel=0.01)


def test_a_step_with_more_to_say_weighs_more(made):
    prompts = tuple(f"prompt {number}" for number in range(100))
    plan = made({"writing": {"evaluate": {"from": "large", "data": "tokens",
                                          "prompts": prompts}}})  # fmt: skip
    sizes = step_sizes(pipeline(plan))
    assert max(sizes, key=sizes.get) == "writing"


def test_small_pipelines_have_no_warnings(made):
    assert compile_noted(made()).notes == ()


def test_large_pipelines_are_warned_of_with_the_steps_that_weigh_most(many):
    notes = compile_noted(many(150)).notes
    assert [note.level for note in notes] == ["warning", "warning"]
    assert "The largest steps: large (" in notes[0].text
    assert "a new run, which skips what is done" in notes[1].text


def test_200_steps_fit(many):
    assert len(pipeline(many(200))["root"]["dag"]["tasks"]) == 200


def test_what_argo_could_not_hold_is_refused_with_what_to_do(many):
    with pytest.raises(SpecError) as caught:
        compile_plan(many(300))
    (problem,) = caught.value.problems
    assert "300 steps would make an Argo Workflow of" in problem.what
    assert "Argo takes 700 kB" in problem.what
    assert "Make several workflows of it" in problem.remedy


def test_a_stage_named_like_another_s_driver_is_refused(made):
    twin = {"small-driver": {"continue": {"from": "small", "data": "tokens", "budget": "1 step"}}}
    with pytest.raises(SpecError, match="KFP itself adds a task 'small-driver'"):
        compile_plan(made(twin))
