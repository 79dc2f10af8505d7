"""Re-warming of a trained model: up from nothing once more, then half a cosine down.

Gupta et al., "Continual Pre-Training of Large Language Models: How to (re)warm your model?",
arXiv:2308.04014. With W steps of warmup and T in all:

    t < W    peak · (start + (1 - start) · t / W)
    t >= W   floor + (peak - floor) / 2 · (1 + cos(pi · (t - W) / (T - W)))

The optimizer begins with fresh moments: `optimizer_state: reset`, the default of `continue`.

As in the paper, as far as its abstract and notes on it tell; the full text was not read.
"""

from __future__ import annotations

from graftwork.spec.schedule import Rewarm
from graftwork_train.schedules.base import rate, rise_and_fall


@rate.register
def rewarm(method: Rewarm, step: int, total: int, tokens_per_step: int) -> float:
    """The rate of a step; `floor * peak` at step `total` and after."""
    length = method.warmup.steps(total, tokens_per_step)
    return rise_and_fall(method.peak, method.start, method.floor, length, total, step)
