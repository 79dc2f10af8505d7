"""Linear warmup, then half a cosine down to the floor.

Ibrahim et al., "Simple and Scalable Strategies to Continually Pre-train Large Language Models",
arXiv:2403.08763, section 4.1; the re-warming of Gupta et al., arXiv:2308.04014, is the same rule
with `start` above zero. With W steps of warmup and T in all:

    t < W    peak · (start + (1 - start) · t / W)
    t >= W   floor + (peak - floor) / 2 · (1 + cos(pi · (t - W) / (T - W)))

Differs from the paper: it re-warms from the floor of the stage before; `start` says where from,
0 by default.
"""

from __future__ import annotations

import math

from graftwork.spec.schedule import Cosine
from graftwork_train.schedules.base import rate, warmup


@rate.register
def cosine(method: Cosine, step: int, total: int, tokens_per_step: int) -> float:
    """The rate of a step; `floor * peak` at step `total` and after."""
    length = method.warmup.steps(total, tokens_per_step)
    rising = warmup(method.peak, method.start, length, step)
    if rising is not None:
        return rising
    progress = min(1.0, (step - length) / max(1, total - length))
    # Written as a mean of both ends, so that each of them is met exactly.
    share = (1 + math.cos(math.pi * progress)) / 2
    return method.peak * share + method.floor * method.peak * (1 - share)
