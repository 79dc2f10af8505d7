"""The power schedule: the law's golden values, its borders, and what it must not depend on."""

from __future__ import annotations

from itertools import pairwise

import pytest
from pydantic import ValidationError

from graftwork.spec.schedule import Power
from graftwork.units import Extent
from graftwork_train.schedules import rate

STEPS = 100_000


def power(**fields):
    short = {"name": "power", "warmup": Extent.parse("10 steps")}
    return Power(**(short | fields))


def per_step(batch):
    """Tokens of a step of so many sequences of 4096."""
    return batch * 4096


def at_tokens(tokens, batch=512, **fields):
    """The law's rate after so many tokens, without warmup and decay in the way."""
    method = power(decay=Extent.parse("0%"), **fields)
    step = round(tokens / per_step(batch))
    return rate(method, step, 10 * step, per_step(batch))


def test_the_defaults_are_the_papers():
    method = Power(name="power")
    assert (method.peak, method.scale, method.exponent) == (0.02, 4.0, -0.51)
    assert (str(method.warmup), str(method.decay)) == ("1B tokens", "10%")


@pytest.mark.parametrize(
    ("batch", "tokens"),
    [(8, 1.9e6), (16, 7.5e6), (64, 1.1e8), (128, 4.4e8), (512, 6.7e9), (1024, 2.6e10)],
)
def test_the_cap_ends_at_its_golden_number_of_tokens(batch, tokens):
    # The values are given to two digits: the cap ends within their rounding.
    assert at_tokens(0.96 * tokens, batch) == 0.02
    assert at_tokens(1.04 * tokens, batch) < 0.02


@pytest.mark.parametrize(("tokens", "golden"), [(1e10, 0.0163), (1e11, 0.0050), (1e12, 0.00155)])
def test_the_golden_rates_of_a_batch_of_512(tokens, golden):
    assert at_tokens(tokens) == pytest.approx(golden, abs=0.5 * 10 ** (-5 if golden < 2e-3 else -4))


def test_ten_times_the_tokens_multiply_the_rate_by_a_golden_factor():
    ratio = at_tokens(1e12) / at_tokens(1e11)
    assert ratio == pytest.approx(0.309, abs=5e-4)
    assert ratio == pytest.approx(10**-0.51, rel=1e-4)


def test_a_doubled_batch_doubles_the_rate_where_it_is_not_capped():
    assert at_tokens(1e12, 256) * 2 == pytest.approx(at_tokens(1e12, 512), rel=1e-5)
    assert at_tokens(1e8, 256) == at_tokens(1e8, 512) == 0.02


def test_the_batch_counts_by_its_tokens_and_not_by_its_sequences():
    # 4096 sequences of 128 tokens are 128 of 4096: nothing else of the shape comes in.
    assert rate(power(), 5000, STEPS, 4096 * 128) == rate(power(), 5000, STEPS, per_step(128))


def test_the_warmup_rises_in_a_line_to_the_laws_rate():
    method = power(peak=1.0, start=0.2)
    top = per_step(512) / 4096 * 4 * (10 * per_step(512)) ** -0.51
    got = [rate(method, step, STEPS, per_step(512)) for step in (0, 5, 10)]
    assert got == pytest.approx([0.2 * top, 0.6 * top, top], rel=1e-12)


def test_both_borders_are_continuous():
    method = power(warmup=Extent.parse("200 steps"), decay=Extent.parse("200 steps"))
    rates = [rate(method, step, 2000, per_step(16)) for step in range(2001)]
    # A linear rise over 200 steps, and a fall to a hundredth: 100^(1/200) is a factor of 1.0233.
    assert all(b / a >= 100 ** (-1 / 200) * (1 - 1e-9) for a, b in pairwise(rates[1:]))
    assert all(b - a <= max(rates) / 200 * (1 + 1e-9) for a, b in pairwise(rates))


def test_the_decay_is_exponential_and_ends_on_its_floor():
    method = power(peak=1.0, decay=Extent.parse("20%"), floor=0.01)
    high, middle, low = (rate(method, step, 1000, per_step(8)) for step in (800, 900, 1000))
    assert middle == pytest.approx(high * 0.1, rel=1e-12)
    assert low == pytest.approx(high * 0.01, rel=1e-12)
    assert rate(method, 1200, 1000, per_step(8)) == low


def test_before_the_decay_the_rate_does_not_depend_on_the_total():
    for step in (0, 5, 10, 4000, 8999):
        assert rate(power(), step, 10_000, per_step(64)) == rate(power(), step, STEPS, per_step(64))


def test_a_stage_that_counts_its_past_goes_on_where_the_other_left_off():
    later = power(past=Extent.parse("3000 steps"))
    in_tokens = power(past=Extent.parse(f"{3000 * per_step(64)} tokens"))
    for step in (0, 1, 500):
        whole = rate(power(), 3000 + step, STEPS, per_step(64))
        assert rate(later, step, STEPS, per_step(64)) == whole
        assert rate(in_tokens, step, STEPS, per_step(64)) == whole


def test_a_past_that_ended_inside_the_warmup_goes_on_rising():
    later = power(past=Extent.parse("4 steps"))
    got = [rate(later, step, 1000, per_step(64)) for step in range(10)]
    assert got == [rate(power(), 4 + step, 1000, per_step(64)) for step in range(10)]


def test_without_a_warmup_the_first_step_is_at_the_cap():
    assert rate(power(warmup=Extent.parse("0 steps")), 0, 100, per_step(8)) == 0.02


def test_a_decay_longer_than_what_the_warmup_leaves_begins_after_the_warmup():
    method = power(decay=Extent.parse("99 steps"))
    rates = [rate(method, step, 100, per_step(64)) for step in range(101)]
    assert rates.index(max(rates)) == 10
    assert rates[100] == pytest.approx(0.01 * rates[10], rel=1e-12)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"floor": 0.0}, "never reaches a floor of 0"),
        ({"exponent": 0.51}, "less than 0"),
        ({"past": Extent.parse("10%")}, "no share of it"),
    ],
)
def test_what_makes_no_power_schedule_is_refused(fields, told):
    with pytest.raises(ValidationError, match=told):
        power(**fields)
