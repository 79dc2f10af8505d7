from __future__ import annotations

import pytest

from graftwork.errors import SpecError
from graftwork.plan import plan


def names(made):
    return [planned.step.name for planned in made.steps]


def test_without_seeds_every_stage_runs_once_under_its_own_name(build):
    assert names(plan(build())) == ["tokens", "small", "stacked", "large", "scratch", "verdict"]


def test_a_further_seed_copies_the_seeded_ancestors_of_the_arms_and_shares_the_rest(build):
    made = plan(build(seeds=2))
    assert names(made) == [
        "tokens",
        *("small", "small-s18"),
        *("stacked", "stacked-s18"),
        *("large", "large-s18"),
        *("scratch", "scratch-s18"),
        "verdict",
    ]
    assert made["large-s18"].after == ("tokens", "stacked-s18")
    assert {made[name].step.seed for name in ("tokens", "verdict")} == {0}


def test_a_comparison_reads_every_arm_once_a_seed(build):
    inputs = plan(build(seeds=3))["verdict"].step.inputs
    assert [(source.role, source.seed) for source in inputs] == [
        *(("arms.g_stack", seed) for seed in (17, 18, 19)),
        *(("arms.scratch", seed) for seed in (17, 18, 19)),
    ]


def test_listed_seeds_replace_the_workflow_s_own(build):
    made = plan(build({"verdict": {"compare": {"arms": {"a": "large", "b": "scratch"},
                                               "seeds": (3, 5)}}}))  # fmt: skip
    assert [name for name in names(made) if name.startswith("large")] == ["large-s3", "large-s5"]


def test_a_stage_that_something_else_reads_runs_for_the_workflow_s_seed_too(build):
    judged = {"writing": {"evaluate": {"from": "large", "data": "tokens"}}}
    made = plan(build(judged, seeds=(3, 5)))
    assert [name for name in names(made) if name.startswith("large")] == [
        "large", "large-s3", "large-s5",
    ]  # fmt: skip
    assert made["writing"].after == ("large", "tokens")


def test_the_comparison_s_own_seeds_win_over_the_workflow_s(build):
    compare = {"compare": {"arms": {"a": "large", "b": "scratch"}, "seeds": 1}}
    assert names(plan(build({"verdict": compare}, seeds=4))).count("large-s18") == 0


def test_seeds_reach_models_only_up_to_a_stage_without_chance(build):
    changes = {
        "rough": {"prepare": {"from": "python", "context": 128}},
        "weak": {"train": {"data": "rough", "model": {"layers": 1, "width": 64, "heads": 2},
                           "budget": "5 steps"}},
        "strong": {"train": {"data": "rough", "model": {"layers": 2, "width": 64, "heads": 2},
                             "budget": "5 steps"}},
        "picked": {"select": {"from": "python",
                              "method": {"name": "preselect", "models": ("weak", "strong")}}},
        "tokens": {"prepare": {"from": "picked", "context": 128}},
    }  # fmt: skip
    made = plan(build(changes, seeds=2))
    assert "weak-s18" not in names(made)
    assert "large-s18" in names(made)


def test_data_that_a_model_has_written_are_others_for_each_seed(build):
    changes = {
        "said": {"synthesize": {"from": "python", "method": {"name": "wrap"},
                                "writer": {"name": "model", "from": "small"}}},
        "both": {"prepare": {"from": ["said", "python"], "context": 128,
                             "tokenizer": {"from": "tokens"}}},
        "large": {"continue": {"from": "stacked", "data": "both", "budget": "20 steps"}},
    }  # fmt: skip
    made = plan(build(changes, seeds=2))
    assert made["large-s18"].after == ("both-s18", "stacked-s18")
    assert made["both-s18"].after == ("said-s18", "tokens")
    assert made["said-s18"].after == ("small-s18",)
    assert made["both"].step.fingerprint != made["both-s18"].step.fingerprint
    assert "tokens-s18" not in names(made)


def test_steps_come_after_what_they_wait_for(build):
    made = plan(build(seeds=3))
    place = {name: index for index, name in enumerate(names(made))}
    for planned in made.steps:
        assert all(place[name] < place[planned.step.name] for name in planned.after)


def test_a_condition_is_an_order_and_not_an_input(build):
    changes = {
        "large": {
            "continue": {"from": "stacked", "data": "tokens", "budget": "20 steps"},
            "when": "small.loss < 9",
        }
    }
    plain, conditional = plan(build()), plan(build(changes))
    assert conditional["large"].after == ("tokens", "stacked", "small")
    assert conditional["large"].step.condition.stage == "small"
    assert conditional["large"].step.fingerprint == plain["large"].step.fingerprint


def test_the_condition_of_a_further_seed_reads_that_seed(build):
    changes = {
        "large": {
            "continue": {"from": "stacked", "data": "tokens", "budget": "20 steps"},
            "when": "small.loss < 9",
        }
    }
    made = plan(build(changes, seeds=2))
    assert made["large-s18"].step.condition.seed == 18


def test_a_name_that_a_seed_makes_too_long_is_refused_with_the_room_there_is(build):
    long = "a-name-of-twenty-nine-letters"
    changes = {"large": None, long: {"continue": {"from": "stacked", "data": "tokens",
                                                  "budget": "20 steps"}},
               "scratch": {"train": {"data": "tokens", "model": {"layers": 4, "width": 64,
                                                                 "heads": 2, "ffn": 128},
                                     "budget": f"flops of {long}"}},
               "verdict": {"compare": {"arms": {"a": long, "b": "scratch"}}}}  # fmt: skip
    plan(build(changes))
    with pytest.raises(SpecError, match="Use at most 26 characters"):
        plan(build(changes, seeds=2))


def test_a_name_that_a_seed_would_take_twice_is_refused(build):
    twin = {"large-s18": {"continue": {"from": "stacked", "data": "tokens", "budget": "1 step"}}}
    with pytest.raises(SpecError, match="'large-s18', as another stage is"):
        plan(build(twin, seeds=2))


def test_stages_that_wait_for_one_another_are_refused(build):
    changes = {"small": {"continue": {"from": "stacked", "data": "tokens", "budget": "5 steps"}}}
    with pytest.raises(SpecError, match=r"small.*stacked|stacked.*small"):
        plan(build(changes))
