"""Re-warming from the floor of the training before, and re-decaying; with `replay` beside.

Ibrahim et al., "Simple and Scalable Strategies to Continually Pre-train Large Language Models",
arXiv:2403.08763, section 4.1. With W steps of warmup and T in all:

    t < W    peak · (start + (1 - start) · t / W),   start = floor by default
    t >= W   floor + (peak - floor) / 2 · (1 + cos(pi · (t - W) / (T - W)))

The other half of the method is the stage's: `replay` takes a share of every batch from the old
data, in its original order, and as much less of the new (5% after a weak shift, 25% after a strong
one); `optimizer_state: reset` begins with fresh moments.

As in the paper.
"""

from __future__ import annotations

from graftwork.spec.schedule import Redecay
from graftwork_train.schedules.base import rate, rise_and_fall


@rate.register
def redecay(method: Redecay, step: int, total: int, tokens_per_step: int) -> float:
    """The rate of a step; `floor * peak` at step `total` and after."""
    length = method.warmup.steps(total, tokens_per_step)
    return rise_and_fall(method.peak, method.start, method.floor, length, total, step)
