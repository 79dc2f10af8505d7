"""The inverse square root: values by hand, its border, and that it has no end."""

from __future__ import annotations

from itertools import pairwise

import pytest

from graftwork.spec.schedule import InverseSqrt
from graftwork.units import Extent
from graftwork_train.schedules import rate


def inverse(**fields):
    defaults = {"name": "inverse_sqrt", "peak": 1e-3, "warmup": Extent.parse("100 steps")}
    return InverseSqrt(**(defaults | fields))


def test_the_values_by_hand():
    got = [rate(inverse(), step, 10_000, 512) for step in (0, 50, 100, 400, 2500, 10_000)]
    assert got == pytest.approx([0, 5e-4, 1e-3, 5e-4, 2e-4, 1e-4], rel=1e-12)


def test_it_is_the_papers_rule_where_the_peak_is_the_papers():
    width, warmup = 512, 4000
    method = inverse(peak=(width * warmup) ** -0.5, warmup=Extent.parse("4000 steps"))
    for step in (1, 1000, 4000, 4001, 100_000):
        paper = width**-0.5 * min(step**-0.5, step * warmup**-1.5)
        assert rate(method, step, 100_000, 512) == pytest.approx(paper, rel=1e-12)


def test_the_border_of_the_warmup_is_continuous():
    rates = [rate(inverse(), step, 1000, 512) for step in range(1001)]
    assert max(abs(b - a) for a, b in pairwise(rates)) <= 1e-5 * (1 + 1e-9)
    assert rates[100:] == sorted(rates[100:], reverse=True)


def test_the_rate_does_not_depend_on_the_total():
    for step in (0, 99, 100, 101, 900, 5000):
        assert rate(inverse(), step, 1000, 512) == rate(inverse(), step, 10**6, 512)


def test_a_warmup_in_shares_does_depend_on_the_total():
    shared = inverse(warmup=Extent.parse("10%"))
    assert rate(shared, 500, 1000, 512) != rate(shared, 500, 10_000, 512)


@pytest.mark.parametrize("past", ["700 steps", "358_400 tokens"])
def test_a_stage_that_counts_its_past_goes_on_where_the_other_left_off(past):
    later = inverse(past=Extent.parse(past))
    for step in (0, 1, 300):
        assert rate(later, step, 300, 512) == rate(inverse(), 700 + step, 1000, 512)


def test_without_a_past_a_further_stage_jumps_back_to_its_warmup():
    assert rate(inverse(), 0, 300, 512) == 0.0 != rate(inverse(), 700, 1000, 512)


def test_without_a_warmup_the_first_step_is_at_the_peak():
    assert rate(inverse(warmup=Extent.parse("0 steps")), 0, 100, 512) == 1e-3
