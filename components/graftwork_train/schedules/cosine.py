"""Linear warmup, then half a cosine down to the floor.

Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", arXiv:1608.03983,
section 3. With W steps of warmup and T in all:

    t < W    peak · (start + (1 - start) · t / W)
    t >= W   floor + (peak - floor) / 2 · (1 + cos(pi · (t - W) / (T - W)))

where t counts on from `past`, and T is `past`, the stage and what comes `ahead` together: stages
that divide one cosine among them follow the very curve of one stage.

Differs from the paper: a linear warmup comes first, as is usual for language models, and nothing
restarts; a `continue` stage with a schedule of its own does.
"""

from __future__ import annotations

from graftwork.spec.schedule import Cosine
from graftwork_train.schedules.base import rate, rise_and_fall


@rate.register
def cosine(method: Cosine, step: int, total: int, tokens_per_step: int) -> float:
    """The rate of a step; `floor * peak` once all is over that the cosine spans."""
    past = method.past.steps(total, tokens_per_step)
    whole = past + total + method.ahead.steps(total, tokens_per_step)
    length = method.warmup.steps(whole, tokens_per_step)
    return rise_and_fall(method.peak, method.start, method.floor, length, whole, past + step)
