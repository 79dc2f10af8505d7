"""Linear warmup, then down with the inverse square root of the steps; it has no end.

Vaswani et al., "Attention Is All You Need", arXiv:1706.03762, section 5.3. With W steps of warmup:

    t < W    peak · (start + (1 - start) · t / W)
    t >= W   peak · sqrt(W / t)

where t counts on from `past`. The rate does not depend on the total where the warmup is in steps
or tokens.

Differs from the paper: the peak is given, where the paper has (width · W)^-0.5.
"""

from __future__ import annotations

import math

from graftwork.spec.schedule import InverseSqrt
from graftwork_train.schedules.base import rate, warmup


@rate.register
def inverse_sqrt(method: InverseSqrt, step: int, total: int, tokens_per_step: int) -> float:
    """The rate of a step, above 0 after any number of steps."""
    length = method.warmup.steps(total, tokens_per_step)
    counted = step + method.past.steps(total, tokens_per_step)
    rising = warmup(method.peak, method.start, length, counted)
    if rising is not None:
        return rising
    # Without a warmup, step 0 is at the peak as step 1 is.
    return method.peak * math.sqrt(max(1, length) / max(1, counted))
