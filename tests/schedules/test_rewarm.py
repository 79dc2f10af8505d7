"""Re-warming: from nothing to the peak and down to a tenth, with the lengths the paper tries."""

from __future__ import annotations

from itertools import pairwise

import pytest

from graftwork.spec.schedule import Cosine, Rewarm
from graftwork.spec.stages import Continue
from graftwork.units import Extent
from graftwork_train.schedules import rate


def rewarm(**fields):
    return Rewarm(**({"name": "rewarm"} | fields))


@pytest.mark.parametrize(("warmup", "length"), [("0%", 0), ("0.5%", 5), ("1%", 10), ("2%", 20)])
def test_it_peaks_after_its_warmup_and_ends_on_a_tenth(warmup, length):
    method = rewarm(warmup=Extent.parse(warmup))
    rates = [rate(method, step, 1000, 512) for step in range(1001)]
    assert rates[0] == (0.0 if length else 3e-4)
    assert rates[length] == 3e-4 == max(rates)
    assert rates[1000] == pytest.approx(3e-5, rel=1e-12)
    assert rates[length:] == sorted(rates[length:], reverse=True)


@pytest.mark.parametrize("peak", [1.5e-4, 3e-4, 6e-4])
def test_the_papers_rates_scale_the_whole_schedule(peak):
    for step in (0, 4, 10, 500, 1000):
        expected = rate(rewarm(), step, 1000, 512) * peak / 3e-4
        assert rate(rewarm(peak=peak), step, 1000, 512) == pytest.approx(expected, rel=1e-12)


def test_halfway_after_the_warmup_it_is_the_mean_of_peak_and_floor():
    assert rate(rewarm(), 505, 1000, 512) == pytest.approx(1.65e-4, rel=1e-12)


def test_the_border_is_continuous():
    rates = [rate(rewarm(), step, 1000, 512) for step in range(1001)]
    assert max(abs(b - a) for a, b in pairwise(rates)) <= 3e-5 * (1 + 1e-9)


def test_a_stage_jumps_down_from_the_floor_of_the_one_before():
    before = Cosine(name="cosine", peak=3e-4)
    assert rate(before, 1000, 1000, 512) > rate(rewarm(), 0, 1000, 512) == 0.0


def test_a_continue_stage_begins_with_fresh_moments_unless_told():
    fields = {"from": "base", "data": "tokens", "budget": "100 steps"}
    stage = {**fields, "schedule": {"name": "rewarm"}}
    assert Continue.model_validate(stage).optimizer_state == "reset"
    kept = Continue.model_validate(stage | {"optimizer_state": "keep"})
    assert kept.optimizer_state == "keep"
