from __future__ import annotations

from graftwork.artifact import Record
from graftwork.plan import plan, status


def record(step):
    return Record(
        workflow=step.workflow, stage=step.stage, kind=step.spec.kind, seed=step.seed,
        fingerprint=step.fingerprint, config={}, files=[], content="0",
    )  # fmt: skip


def current(*names):
    return lambda step: record(step) if step.name in names else None


def test_nothing_is_done_before_the_first_run(build):
    assert set(status(plan(build()), current()).values()) == {"to do"}


def test_what_is_there_is_done(build):
    made = plan(build())
    found = status(made, current(*(planned.step.name for planned in made.steps)))
    assert set(found.values()) == {"done"}


def test_what_is_there_behind_something_that_is_not_is_unknown(build):
    found = status(plan(build()), current("tokens", "large"))
    assert found["tokens"] == "done"
    assert found["small"] == "to do"
    assert found["large"] == "unknown"


def test_a_step_that_may_be_left_out_is_unknown(build):
    changes = {
        "large": {
            "continue": {"from": "stacked", "data": "tokens", "budget": "20 steps"},
            "when": "small.loss < 9",
        }
    }
    assert status(plan(build(changes)), current())["large"] == "unknown"


def test_steps_are_asked_for_in_order(build):
    asked = []
    made = plan(build(seeds=2))
    status(made, lambda step: asked.append(step.name))
    assert asked == [planned.step.name for planned in made.steps]
