"""What follows from a comparison: arms over seeds, held against a baseline.

The margin is two standard deviations of the difference between *one run* of the arm and *one run*
of the baseline,

    margin = 2 * sqrt(s_arm^2 + s_baseline^2),    s^2 = sum (x_i - mean)^2 / (n - 1)

and not of the difference between the means, whose standard error shrinks with the number of
seeds. So `confirmed` says that the effect stands out from the luck of a single run; with three
seeds, arms that do not differ at all come out apart in 2.6 % of comparisons; two standard errors
would call 12 % of them an effect.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

Verdict = Literal["confirmed", "refuted", "inconclusive"]
NUMBERS: dict[Verdict, float] = {"confirmed": 1.0, "refuted": -1.0, "inconclusive": 0.0}


@dataclass(frozen=True, slots=True)
class Judgement:
    """An arm against the baseline.

    Attributes:
        delta: Mean of the arm minus mean of the baseline.
        margin: What |delta| has to exceed; None where there are fewer than two seeds.
        verdict: What follows.
        reason: Why it is inconclusive, where that is not the margin; else empty.
    """

    delta: float
    margin: float | None
    verdict: Verdict
    reason: str = ""


def spread(values: Sequence[float]) -> float | None:
    """Standard deviation over seeds, with n - 1; None for a single seed."""
    return stdev(values) if len(values) > 1 else None


def judge(
    arm: Sequence[float], baseline: Sequence[float], goal: Literal["lower", "higher"]
) -> Judgement:
    """Hold an arm's values, one for each seed, against the baseline's.

    `confirmed`: the arm is better than the baseline by more than the margin. `refuted`: it is
    worse by more than the margin. Else `inconclusive`, and always with a single seed, or where
    seeds changed nothing at all, since one run was then counted several times.
    """
    delta = fmean(arm) - fmean(baseline)
    own, other = spread(arm), spread(baseline)
    if own is None or other is None:
        reason = "one seed says nothing about chance; give the comparison 'seeds: 3'"
        return Judgement(delta, None, "inconclusive", reason)
    margin = 2 * math.hypot(own, other)
    if margin == 0:
        reason = "all seeds gave the very same values, so they are one run counted several times"
        return Judgement(delta, margin, "inconclusive", reason)
    if abs(delta) <= margin:
        return Judgement(delta, margin, "inconclusive")
    better = delta < 0 if goal == "lower" else delta > 0
    return Judgement(delta, margin, "confirmed" if better else "refuted")
