"""Warmup-stable-decay: shapes, borders, and independence of the total before the decay."""

import math
from itertools import pairwise

import pytest
from pydantic import ValidationError

from graftwork.spec.schedule import Wsd
from graftwork.units import Extent
from graftwork_train.schedules import rate


def wsd(**fields):
    defaults = {
        "name": "wsd", "peak": 1e-3,
        "warmup": Extent.parse("10 steps"), "decay": Extent.parse("20 steps"),
    }  # fmt: skip
    return Wsd(**(defaults | fields))


def test_between_warmup_and_decay_the_rate_is_exactly_the_peak():
    assert {rate(wsd(), step, 100, 512) for step in range(10, 81)} == {1e-3}


@pytest.mark.parametrize(("shape", "half"), [("linear", 0.5), ("sqrt", 1 - math.sqrt(0.5))])
def test_the_decay_has_its_shape_and_ends_on_the_floor(shape, half):
    method = wsd(shape=shape)
    assert rate(method, 90, 100, 512) == pytest.approx(1e-3 * half, rel=1e-12)
    assert rate(method, 100, 100, 512) == 0.0
    assert rate(wsd(shape=shape, floor=0.2), 100, 100, 512) == pytest.approx(2e-4, rel=1e-12)


def test_before_the_decay_the_rate_does_not_depend_on_the_total():
    for step in (0, 3, 10, 50, 79):
        assert rate(wsd(), step, 100, 512) == rate(wsd(), step, 100_000, 512)


def test_the_linear_decay_has_no_jump_anywhere():
    rates = [rate(wsd(shape="linear"), step, 100, 512) for step in range(101)]
    assert max(abs(b - a) for a, b in pairwise(rates)) <= 1e-4 * (1 + 1e-9)


def test_rewarming_begins_at_its_share_of_the_peak():
    assert rate(wsd(start=0.25), 0, 100, 512) == pytest.approx(2.5e-4, rel=1e-12)


def test_a_decay_longer_than_what_the_warmup_leaves_begins_after_the_warmup():
    method = wsd(decay=Extent.parse("99 steps"), shape="linear")
    assert rate(method, 10, 100, 512) == 1e-3
    assert rate(method, 55, 100, 512) == pytest.approx(5e-4, rel=1e-12)


def test_an_exponential_decay_falls_by_equal_factors_to_its_floor():
    method = wsd(shape="exponential", floor=0.01)
    got = [rate(method, step, 100, 512) for step in (79, 80, 90, 100, 200)]
    assert got == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5, 1e-5], rel=1e-12)


def test_an_exponential_decay_to_nothing_is_refused():
    with pytest.raises(ValidationError, match="never reaches a floor of 0"):
        wsd(shape="exponential")


def test_a_square_root_and_an_exponential_run_below_a_line():
    early = {s: rate(wsd(shape=s, floor=0.3), 81, 100, 512) for s in ("sqrt", "linear")}
    assert early["sqrt"] < early["linear"] < 1e-3
    line, bent = (rate(wsd(shape=s, floor=0.01), 90, 100, 512) for s in ("linear", "exponential"))
    assert bent < line


def test_without_a_warmup_the_first_step_is_at_the_peak():
    assert rate(wsd(warmup=Extent.parse("0 steps")), 0, 100, 512) == 1e-3
