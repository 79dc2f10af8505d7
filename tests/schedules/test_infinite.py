"""Infinite schedules: four phases, three borders, and going on from before the annealing."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from pydantic import ValidationError

from graftwork.spec.schedule import Infinite, Rewarm
from graftwork.units import Extent
from graftwork_train.schedules import rate

NONE = Extent.parse("0 steps")
SHAPES = pytest.mark.parametrize("shape", ["cosine", "inverse_sqrt"])


def infinite(**fields):
    """Warmup to step 100, cooldown to 400; 3e-4, then 1.65e-4, annealed to 3e-5 over 150 steps."""
    lengths = {"warmup": "100 steps", "cooldown": "300 steps", "anneal": "150 steps"}
    parsed = {name: Extent.parse(text) for name, text in lengths.items()}
    return Infinite(**({"name": "infinite"} | parsed | fields))


def rates(method, total=1000):
    return [rate(method, step, total, 512) for step in range(total + 1)]


@SHAPES
def test_the_golden_values_at_the_borders(shape):
    got = rates(infinite(shape=shape))
    assert got[0] == 0.0
    assert got[50] == pytest.approx(1.5e-4, rel=1e-12)
    assert got[100] == 3e-4 == max(got)
    assert got[400] == got[849] == pytest.approx(1.65e-4, rel=1e-12)
    assert got[850] == pytest.approx(1.65e-4, rel=1e-12)
    assert got[1000] == pytest.approx(3e-5, rel=1e-12)


def test_halfway_through_the_cooldown_by_hand():
    half = rate(infinite(), 250, 1000, 512)
    assert half == pytest.approx((3e-4 + 1.65e-4) / 2, rel=1e-12)
    share = (1 / math.sqrt(1 + 8 * 0.5) - 1) / (1 / math.sqrt(1 + 8) - 1)
    root = rate(infinite(shape="inverse_sqrt", steepness=8.0), 250, 1000, 512)
    assert root == pytest.approx(3e-4 - 1.35e-4 * share, rel=1e-12)


@SHAPES
def test_the_cooldown_only_falls_and_an_inverse_root_falls_earlier(shape):
    got = rates(infinite(shape=shape))[100:401]
    assert got == sorted(got, reverse=True)
    assert rate(infinite(shape="inverse_sqrt"), 200, 1000, 512) < rate(infinite(), 200, 1000, 512)


def test_the_annealing_falls_by_equal_factors():
    got = rates(infinite())[850:]
    factor = (3e-5 / 1.65e-4) ** (1 / 150)
    assert [b / a for a, b in pairwise(got)] == pytest.approx([factor] * 150, rel=1e-9)


@SHAPES
def test_the_three_borders_are_continuous(shape):
    got = rates(infinite(shape=shape))
    # No step is larger than the steepest slope: the warmup's, or an inverse root's at its start.
    root = 1.35e-4 * (10 / 2) / (1 - 1 / math.sqrt(11)) / 300
    steepest = 3e-4 / 100 if shape == "cosine" else root
    assert max(abs(b - a) for a, b in pairwise(got)) <= steepest * (1 + 1e-6)
    assert abs(got[400] - got[399]) <= 1.35e-4 / 300 * math.pi / 2
    assert abs(got[851] - got[850]) <= 1.65e-4 * (1 - (3e-5 / 1.65e-4) ** (1 / 150)) * (1 + 1e-9)


def test_the_constant_rate_is_exact_for_any_length():
    # As far as the rounding of a product goes, all of the phase is one number.
    assert {rate(infinite(), step, 10**9, 512) for step in (400, 401, 5000, 10**9 - 151)} == {
        0.55 * 3e-4
    }


@SHAPES
def test_before_the_annealing_the_rate_does_not_depend_on_the_total(shape):
    method = infinite(shape=shape)
    for step in (0, 50, 100, 250, 400, 849):
        assert rate(method, step, 1000, 512) == rate(method, step, 10**7, 512)


def test_going_on_from_before_the_annealing_keeps_the_rate_and_a_rewarming_does_not():
    first = infinite(anneal=NONE)
    later = infinite(warmup=NONE, cooldown=NONE)
    before = rate(first, 999, 1000, 512)
    assert [rate(later, step, 1000, 512) for step in (0, 1, 849)] == [before] * 3
    assert rate(Rewarm(name="rewarm"), 0, 1000, 512) != before


def test_without_an_annealing_the_last_step_is_at_the_constant_rate():
    got = rates(infinite(anneal=NONE))
    assert set(got[400:]) == {0.55 * 3e-4}


def test_a_branch_of_annealing_alone_goes_from_the_constant_rate_to_the_floor():
    branch = infinite(warmup=NONE, cooldown=NONE, anneal=Extent.parse("100%"))
    got = rates(branch, 150)
    assert got[0] == pytest.approx(1.65e-4, rel=1e-12)
    assert got == pytest.approx(rates(infinite())[850:], rel=1e-12)


def test_the_defaults_leave_a_phase_at_the_constant_rate():
    got = rates(Infinite(name="infinite"))
    assert [got[10], got[610], got[849], got[1000]] == pytest.approx(
        [3e-4, 1.65e-4, 1.65e-4, 3e-5], rel=1e-12
    )


@pytest.mark.parametrize("fields", [{"floor": 0.0}, {"floor": 0.6}])
def test_a_floor_of_nothing_or_above_the_constant_rate_is_refused(fields):
    with pytest.raises(ValidationError, match="is not above 0 and at most the constant rate"):
        infinite(**fields)
