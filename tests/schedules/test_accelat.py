"""AccelAT: when the controller decays the rate, when it does not, and that it goes on exactly."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from pydantic import ValidationError

from graftwork.spec.schedule import AccelAt, Cosine
from graftwork.units import Extent
from graftwork_train.schedules import rate
from graftwork_train.schedules.base import controlled


def controller(**fields):
    return controlled(AccelAt(name="accelat", **fields))


def shown(values, **fields):
    """A controller that has seen these likelihoods."""
    made = controller(**fields)
    for value in values:
        made.see(-math.log(value))
    return made


def test_the_defaults_are_the_papers():
    method = AccelAt(name="accelat")
    found = method.peak, method.window, method.quiet, method.gain, method.factor, method.lowest
    assert found == (1e-3, 5, 5, 0.005, 0.8, 1e-6)


def test_a_constant_measure_decays_at_the_golden_looks():
    made = shown([0.4] * 27)
    assert made.decays == [7, 12, 17, 22, 27]
    assert made.decay == pytest.approx(0.8**5)


def test_a_measure_that_gains_enough_never_decays():
    # In the mean of the last five, 0.0051 a look: a little above what counts as little.
    assert shown([0.1 + 0.0051 * look for look in range(60)]).decays == []


def test_a_slow_rise_decays_where_a_watch_for_plateaus_would_not():
    values = [0.1 + 0.003 * look for look in range(20)]
    assert shown(values).decays == [7, 12, 17]
    # Waiting for the best to be beaten, at any patience: it is beaten at every look.
    assert all(after > before for before, after in pairwise(values))


def test_a_fall_of_the_measure_is_little_gain_too():
    assert shown([0.5 - 0.01 * look for look in range(7)]).decays == [7]


def test_nothing_decays_before_the_seventh_look():
    assert shown([0.4] * 6).decays == []


def test_the_decays_end_at_the_lowest_rate():
    made = shown([0.4] * 400, peak=1e-3, lowest=1e-4)
    assert 1e-3 * made.decay == pytest.approx(1e-4, rel=1e-12)
    assert shown([0.4] * 40, peak=1e-4, lowest=1e-3).decay == 1.0


def test_the_loss_itself_may_be_watched():
    made = controller(metric="loss", gain=0.01)
    for look in range(20):
        made.see(4.0 - 0.02 * look)
    assert made.decays == []
    for _ in range(12):
        made.see(3.6)
    assert made.decays


def test_a_state_of_plain_data_goes_on_exactly():
    values = [0.3 + 0.002 * math.sin(look) for look in range(40)]
    for cut in (1, 6, 7, 13, 30):
        resumed = controller()
        resumed.resume(shown(values[:cut]).details())
        for value in values[cut:]:
            resumed.see(-math.log(value))
        assert resumed.details() == shown(values).details()


def test_looks_come_every_so_often_and_neither_first_nor_last():
    made = controller(every=Extent.parse("25%"))
    assert [step for step in range(101) if made.due(step, 100, 64)] == [25, 50, 75]


def test_the_rate_before_decays_is_constant_after_its_warmup():
    method = AccelAt(name="accelat", peak=0.01, warmup=Extent.parse("4 steps"))
    assert [rate(method, step, 100, 64) for step in (0, 2, 4, 99)] == [0.0, 0.005, 0.01, 0.01]


def test_other_schedules_have_no_controller():
    assert controlled(Cosine(name="cosine")) is None


def test_looks_that_never_come_are_refused():
    with pytest.raises(ValidationError, match="above 0"):
        AccelAt(name="accelat", every=Extent.parse("0 steps"))
