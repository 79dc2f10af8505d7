"""The cosine schedule: borders, ends, re-warming, and a case by hand."""

import math
from itertools import pairwise

import pytest

from graftwork.spec.base import identity
from graftwork.spec.schedule import Cosine
from graftwork.units import Extent
from graftwork_train.schedules import rate


def cosine(**fields):
    fields = {"name": "cosine", "peak": 3e-4, "warmup": Extent.parse("10 steps")} | fields
    return Cosine(**fields)


def test_it_starts_at_zero_peaks_after_the_warmup_and_ends_on_the_floor():
    rates = [rate(cosine(), step, 100, 512) for step in range(101)]
    assert rates[0] == 0.0
    assert rates[10] == 3e-4 == max(rates)
    assert rates[100] == pytest.approx(3e-5, abs=1e-18)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_the_golden_values_of_a_hundred_steps():
    got = [rate(cosine(), step, 100, 512) for step in (5, 55, 77)]
    middle = 3e-5 + 2.7e-4 / 2
    late = 3e-5 + 2.7e-4 / 2 * (1 + math.cos(math.pi * 67 / 90))
    assert got == pytest.approx([1.5e-4, middle, late], rel=1e-12)


def test_rewarming_begins_at_its_share_of_the_peak():
    method = cosine(start=0.1)
    assert rate(method, 0, 100, 512) == pytest.approx(3e-5, rel=1e-12)
    assert rate(method, 5, 100, 512) == pytest.approx(3e-4 * 0.55, rel=1e-12)
    assert rate(method, 10, 100, 512) == 3e-4


def test_the_border_of_the_warmup_is_continuous():
    rates = [rate(cosine(), step, 1000, 512) for step in range(1001)]
    largest = max(abs(b - a) for a, b in pairwise(rates))
    assert largest <= 3e-4 / 10 * (1 + 1e-9)


def test_without_a_warmup_the_first_step_is_at_the_peak():
    assert rate(cosine(warmup=Extent.parse("0 steps")), 0, 100, 512) == 3e-4


@pytest.mark.parametrize(("text", "length"), [("5120 tokens", 10), ("25%", 25), ("3 steps", 3)])
def test_a_warmup_may_be_given_in_any_unit(text, length):
    method = cosine(warmup=Extent.parse(text))
    assert rate(method, length - 1, 100, 512) < 3e-4
    assert rate(method, length, 100, 512) == 3e-4


def test_after_the_end_the_rate_stays_on_the_floor():
    assert rate(cosine(), 500, 100, 512) == rate(cosine(), 100, 100, 512)


def test_a_floor_of_all_is_a_constant_rate():
    constant = cosine(floor=1.0, warmup=Extent.parse("0 steps"))
    rates = [rate(constant, step, 100, 512) for step in range(101)]
    assert rates == pytest.approx([3e-4] * 101, rel=1e-15)


def test_stages_that_share_a_cosine_follow_the_curve_of_one():
    whole = [rate(cosine(), step, 100, 512) for step in range(101)]
    first = cosine(ahead=Extent.parse("10 steps"))
    last = cosine(past=Extent.parse("90 steps"))
    assert [rate(first, step, 90, 512) for step in range(91)] == whole[:91]
    assert [rate(last, step, 10, 512) for step in range(11)] == whole[90:]


def test_a_warmup_as_a_share_is_one_of_the_whole_cosine():
    share = Extent.parse("20%")
    first = cosine(warmup=share, ahead=Extent.parse("60 steps"))
    assert max(range(41), key=lambda step: rate(first, step, 40, 512)) == 20


def test_a_span_in_tokens_is_one_in_steps():
    method = cosine(past=Extent.parse("51200 tokens"))
    assert rate(method, 3, 50, 512) == rate(cosine(past=Extent.parse("100 steps")), 3, 50, 512)


@pytest.mark.parametrize("key", ["past", "ahead"])
def test_a_span_outside_the_stage_is_no_share_of_it(key):
    with pytest.raises(ValueError, match=f"{key} lies outside the stage"):
        cosine(**{key: Extent.parse("10%")})


def test_a_cosine_of_its_own_keeps_its_identity():
    assert set(identity(cosine())) == {"name", "peak", "warmup", "start", "floor", "revision"}
