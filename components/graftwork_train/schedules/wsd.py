"""Warmup, a constant peak, then a decay over the last part: warmup-stable-decay.

Hu et al., "MiniCPM: Unveiling the Potential of Small Language Models", arXiv:2404.06395, section
4. With W steps of warmup, D of decay and T in all, and x = (t - (T - D)) / D:

    t < W              peak · (start + (1 - start) · t / W)
    W <= t < T - D     peak
    T - D <= t         peak · (1 - (1 - floor) · f(x)),   f(x) = x (linear) or sqrt(x) (sqrt)
                       peak · floor^x                     (exponential)

Before the decay the rate does not depend on T, so that a stage can be trained on from there.

Differs from the paper: it decays exponentially, which is not the default here; the other two
shapes are those of Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training
Durations", arXiv:2405.18392, section 3.
"""

from __future__ import annotations

import math

from graftwork.spec.schedule import Wsd
from graftwork_train.schedules.base import exponential, rate, warmup


@rate.register
def wsd(method: Wsd, step: int, total: int, tokens_per_step: int) -> float:
    """The rate of a step; `floor * peak` at step `total` and after."""
    length = method.warmup.steps(total, tokens_per_step)
    rising = warmup(method.peak, method.start, length, step)
    if rising is not None:
        return rising
    # A decay that would begin inside the warmup begins when that is over.
    begin = max(length, total - method.decay.steps(total, tokens_per_step))
    if step < begin:
        return method.peak
    progress = min(1.0, (step - begin) / max(1, total - begin))
    if method.shape == "exponential":
        return exponential(method.peak, method.floor * method.peak, progress)
    fallen = math.sqrt(progress) if method.shape == "sqrt" else progress
    return method.peak * (1 - (1 - method.floor) * fallen)
