from __future__ import annotations

import pytest

from graftwork.plan import plan
from graftwork.plan.timing import growth_factor, growth_timing


# The first four are the paper's own; the others an independent evaluation of its formula.
@pytest.mark.parametrize(
    ("parameters", "tokens", "fitted"),
    [
        (8e9, 15e12, "6.58e+09"),
        (7e9, 2e12, "1.11e+10"),
        (13e9, 2e12, "1.58e+10"),
        (70e9, 2e12, "4.25e+10"),
        (5e6, 1e8, "5.06e+10"),
        (20e6, 4e8, "2.97e+10"),
        (410e6, 8e9, "2.00e+10"),
    ],
)
def test_the_fit_gives_the_paper_s_values(parameters, tokens, fitted):
    assert f"{growth_timing(parameters, tokens).fitted:.2e}" == fitted


def test_the_fit_is_used_as_it_is_where_it_is_small():
    timing = growth_timing(8e9, 15e12)
    assert timing.tokens == timing.fitted
    assert timing.in_range
    assert not timing.clamped


def test_the_fit_is_clamped_to_a_tenth_where_it_explodes():
    timing = growth_timing(5e6, 1e8)
    assert timing.tokens == 1e7
    assert timing.clamped
    assert not timing.in_range


@pytest.mark.parametrize(
    ("parameters", "tokens", "fitted", "clamped"),
    [(8e9, 15e12, "24.5", 4), (5e6, 1e8, "0.00299", 2), (1.1e9, 2e11, "2.28", None)],
)
def test_the_fit_for_the_factor_is_clamped_to_what_the_paper_finds_best(
    parameters, tokens, fitted, clamped
):
    factor = growth_factor(parameters, tokens)
    assert f"{factor.fitted:.3g}" == fitted
    assert factor.clamped == (clamped or factor.fitted)


def test_the_plan_tells_the_factor_s_fit_and_that_it_is_outside(build):
    (note,) = [note for note in plan(build()).notes if note.step == "stacked"]
    assert "outside of what it finds best, 2 to 4" in note.text


def test_toys_far_below_the_range_do_not_overflow():
    assert growth_timing(10, 1).tokens == 0.1


@pytest.mark.parametrize(("parameters", "tokens"), [(0, 1e9), (1e9, 0), (1, 1)])
def test_no_compute_has_no_timing(parameters, tokens):
    for fit in (growth_timing, growth_factor):
        with pytest.raises(ValueError, match="no growth timing"):
            fit(parameters, tokens)


def test_the_plan_says_what_the_fit_would_do_and_that_it_does_not_reach_so_far(build):
    (note,) = [note for note in plan(build()).notes if note.step == "stacked"]
    assert note.level == "warning"
    assert "here it does for 81.9k" in note.text
    assert "410M to 70B parameters and says nothing at 205k" in note.text


def test_further_seeds_do_not_repeat_the_note(build):
    assert len([n for n in plan(build(seeds=3)).notes if n.step.startswith("stacked")]) == 1


def test_a_model_of_the_paper_s_size_gets_the_bare_fit(build):
    model = {"layers": 8, "width": 4096, "heads": 32}
    changes = {
        "small": {"train": {"data": "tokens", "model": model, "budget": "6B tokens"}},
        "stacked": {"grow": {"from": "small", "method": {"name": "g_stack", "factor": 4}}},
        "large": {"continue": {"from": "stacked", "data": "tokens", "budget": "15T tokens"}},
        "scratch": None,
        "verdict": None,
    }
    (note,) = (note for note in plan(build(changes)).notes if "fit" in note.text)
    assert note.text.startswith("by the paper's fit the base would train for 5.8B tokens; here")
    assert note.level == "note"
    assert "says nothing" not in note.text
    assert "tenth" not in note.text


def test_a_factor_outside_of_what_the_paper_finds_best_is_warned_of(build):
    changes = {"stacked": {"grow": {"from": "small", "method": {"name": "g_stack", "factor": 5}}}}
    found = [note for note in plan(build(changes)).notes if "a growth factor of 5" in note.text]
    assert [note.level for note in found] == ["warning"]
    assert not [note for note in plan(build()).notes if "a growth factor of" in note.text]
