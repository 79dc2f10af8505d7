import math

import numpy as np
import pytest

from graftwork_train.judgement.rule import NUMBERS, judge, spread


def test_a_hand_worked_case_is_confirmed():
    # Means 1 and 2, both with a standard deviation of 0.1: margin 2 * sqrt(0.02) = 0.2828.
    judgement = judge([0.9, 1.0, 1.1], [1.9, 2.0, 2.1], "lower")
    assert judgement.delta == pytest.approx(-1.0)
    assert judgement.margin == pytest.approx(2 * math.sqrt(0.02))
    assert (judgement.verdict, judgement.reason) == ("confirmed", "")


def test_the_same_case_the_other_way_round_is_refuted():
    assert judge([1.9, 2.0, 2.1], [0.9, 1.0, 1.1], "lower").verdict == "refuted"


def test_higher_may_be_the_goal():
    assert judge([1.9, 2.0, 2.1], [0.9, 1.0, 1.1], "higher").verdict == "confirmed"
    assert judge([0.9, 1.0, 1.1], [1.9, 2.0, 2.1], "higher").verdict == "refuted"


@pytest.mark.parametrize(
    ("shift", "verdict"), [(-0.29, "confirmed"), (-0.27, "inconclusive"), (0.29, "refuted")]
)
def test_the_margin_is_two_standard_deviations_of_the_difference(shift, verdict):
    baseline = [0.9, 1.0, 1.1]
    assert judge([value + shift for value in baseline], baseline, "lower").verdict == verdict


def test_exactly_the_margin_is_not_beyond_it():
    # Standard deviation sqrt(2) each, so that the margin is 4, as is the difference.
    judgement = judge([-1.0, 1.0], [3.0, 5.0], "lower")
    assert judgement.margin == pytest.approx(4.0)
    assert judgement.verdict == "inconclusive"


def test_a_single_seed_is_always_inconclusive():
    for arm, baseline in (([1.0], [9.0]), ([1.0, 1.1], [9.0]), ([1.0], [9.0, 9.1])):
        judgement = judge(arm, baseline, "lower")
        assert (judgement.verdict, judgement.margin) == ("inconclusive", None)
        assert "seeds: 3" in judgement.reason


def test_seeds_that_change_nothing_count_as_one():
    judgement = judge([1.0, 1.0], [2.0, 2.0], "lower")
    assert judgement.verdict == "inconclusive"
    assert "the very same values" in judgement.reason


def test_one_arm_without_spread_still_has_the_others_margin():
    assert judge([1.0, 1.0], [1.9, 2.1], "lower").margin == pytest.approx(2 * math.sqrt(0.02))


def test_the_spread_divides_by_n_minus_one():
    assert spread([1.0, 3.0]) == pytest.approx(math.sqrt(2))
    assert spread([1.0]) is None


def test_arms_that_do_not_differ_come_out_apart_in_under_three_percent():
    generator = np.random.default_rng(0)
    draws = generator.standard_normal((4000, 2, 3))
    verdicts = [judge(list(arm), list(baseline), "lower").verdict for arm, baseline in draws]
    assert 0.015 < np.mean([verdict != "inconclusive" for verdict in verdicts]) < 0.035


def test_verdicts_as_numbers_have_the_sign_of_what_they_say():
    assert NUMBERS == {"confirmed": 1.0, "refuted": -1.0, "inconclusive": 0.0}
