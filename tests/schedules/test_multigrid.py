"""Multigrid: how its steps, shapes and rates are shared out, stage by stage."""

from __future__ import annotations

from collections import Counter

import pytest
from pydantic import ValidationError

from graftwork.spec.schedule import Cosine, Multigrid
from graftwork.units import Extent
from graftwork_train.schedules import rate

STEPS = 1000
NONE = Extent.parse("0 steps")


def multigrid(**fields):
    return Multigrid(**({"name": "multigrid", "warmup": NONE} | fields))


def places(method, steps=STEPS):
    return [method.place(step, steps) for step in range(steps)]


def test_each_length_has_as_many_steps_of_a_stage_as_any_other():
    method = multigrid()
    for begin, end in ((0, 390), (390, 640), (640, 820)):
        counts = Counter(number for _, number in places(method)[begin:end])
        assert sorted(counts) == [0, 1, 2, 3]
        assert max(counts.values()) - min(counts.values()) <= 1


def test_every_stage_walks_from_coarse_to_fine_and_not_the_training_once():
    method = multigrid()
    for begin, end in ((0, 390), (390, 640), (640, 820)):
        numbers = [number for _, number in places(method)[begin:end]]
        assert numbers == sorted(numbers)
        assert (numbers[0], numbers[-1]) == (0, 3)


def test_the_last_phase_is_on_whole_sequences():
    assert {number for _, number in places(multigrid())[820:]} == {3}


def test_the_rates_are_eight_four_two_and_one_times_the_stages_own():
    method = multigrid(peak=0.01)
    for stage, begin, end in ((0, 0, 390), (1, 390, 640), (2, 640, 820)):
        found = [rate(method, step, STEPS, 4096) for step in range(begin, end)]
        multipliers = [value / (0.01 * 0.1**stage) for value in dict.fromkeys(found)]
        assert multipliers == pytest.approx([8, 4, 2, 1], rel=1e-12)


def test_the_fine_tuning_spends_half_at_the_rate_before_and_half_at_the_next():
    found = [rate(multigrid(peak=1.0), step, STEPS, 4096) for step in range(820, 1001)]
    assert found[:90] == pytest.approx([1e-2] * 90)
    assert found[90:] == pytest.approx([1e-3] * 91)


@pytest.mark.parametrize(("scaling", "first"), [("linear", 8), ("sqrt", 8**0.5), ("none", 1)])
def test_the_scaling_of_the_rate_may_be_chosen(scaling, first):
    assert rate(multigrid(peak=0.1, lr_scaling=scaling), 0, STEPS, 4096) == pytest.approx(
        0.1 * first
    )


def test_the_short_cycle_changes_the_length_and_not_the_rate():
    method = multigrid()
    assert [method.cuts(number) for number in range(4)] == [
        (8, 8, 8), (4, 4, 4), (4, 2, 2), (4, 2, 1),
    ]  # fmt: skip
    last = range(820, 910)
    assert [method.pieces(step, STEPS) for step in last][:6] == [
        (4, 2, 1)[step % 3] for step in last
    ][:6]
    assert len({rate(method, step, STEPS, 4096) for step in last}) == 1


def test_the_mean_of_the_lengths_is_that_of_the_steps():
    method = multigrid()
    counted = sum(1 / method.pieces(step, 12_000) for step in range(12_000)) / 12_000
    assert method.mean_context(1024) == pytest.approx(1024 * counted, rel=2e-3)
    assert Cosine(name="cosine").mean_context(1024) == 1024
    assert {Cosine(name="cosine").pieces(step, 10) for step in range(10)} == {1}


def test_without_shapes_a_step_schedule_is_left():
    method = multigrid(long=(1.0,), short=(), milestones=(0.5,), peak=1.0)
    assert {method.pieces(step, 100) for step in range(100)} == {1}
    found = [rate(method, step, 100, 4096) for step in range(100)]
    assert (found[0], found[74], found[75]) == (1.0, 1.0, pytest.approx(0.1))


def test_a_warmup_rises_to_the_rate_of_its_steps():
    method = multigrid(warmup=Extent.parse("10 steps"), peak=1.0)
    assert rate(method, 5, STEPS, 4096) == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"long": (0.5, 0.25, 1.0)}, "must rise"),
        ({"long": (0.25, 0.5)}, "end on whole sequences"),
        ({"short": (0.3,)}, "cuts no sequence into equal pieces"),
        ({"milestones": ()}, "inside the stage"),
        ({"milestones": (0.5, 1.0)}, "inside the stage"),
    ],
)
def test_what_makes_no_grid_is_refused(fields, told):
    with pytest.raises(ValidationError, match=told):
        multigrid(**fields)


def test_a_context_that_does_not_come_in_pieces_is_refused():
    assert not list(multigrid().problems(128))
    told = list(multigrid().problems(100))
    assert told == [told[0]]
    assert "100 tokens do not come in 8 equal pieces" in told[0]
