"""Re-warming and re-decaying: from floor to floor, and the replay that goes with it."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from graftwork.spec.schedule import Cosine, Redecay, Rewarm
from graftwork.units import Extent
from graftwork_train.schedules import rate


def redecay(**fields):
    return Redecay(**({"name": "redecay"} | fields))


def test_the_golden_values_of_the_smaller_model():
    got = [rate(redecay(), step, 1000, 512) for step in (0, 5, 10, 505, 1000)]
    assert got == pytest.approx([3e-5, 1.65e-4, 3e-4, 1.65e-4, 3e-5], rel=1e-12)


def test_the_golden_values_of_the_larger_model():
    method = redecay(peak=1.2e-4)
    got = [rate(method, step, 1000, 512) for step in (0, 10, 1000)]
    assert got == pytest.approx([1.2e-5, 1.2e-4, 1.2e-5], rel=1e-12)


def test_the_papers_equation_between_warmup_and_end():
    for step in (10, 123, 777, 999):
        paper = 3e-5 + (3e-4 - 3e-5) / 2 * (1 + math.cos(math.pi * (step - 10) / 990))
        assert rate(redecay(), step, 1000, 512) == pytest.approx(paper, rel=1e-12)


def test_three_corpora_in_a_row_leave_no_jump_and_a_warmup_from_nothing_does():
    lengths = {"warmup": Extent.parse("50 steps")}
    first = Cosine(name="cosine", peak=3e-4, **lengths)
    rates = [rate(first, step, 1000, 512) for step in range(1001)]
    for _ in range(2):
        rates += [rate(redecay(**lengths), step, 1000, 512) for step in range(1001)]
    assert max(abs(b - a) for a, b in pairwise(rates)) <= 3e-4 / 50 * (1 + 1e-9)
    jump = rates[1000] - rate(Rewarm(name="rewarm", **lengths), 0, 1000, 512)
    assert jump > 3e-4 / 50


def test_it_depends_on_the_total_so_that_a_stage_cannot_be_drawn_out():
    assert rate(redecay(), 500, 1000, 512) != rate(redecay(), 500, 2000, 512)


def test_without_a_warmup_the_first_step_is_at_the_peak():
    assert rate(redecay(warmup=Extent.parse("0%")), 0, 1000, 512) == 3e-4
