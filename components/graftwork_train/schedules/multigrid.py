"""Short sequences in large batches first, coarse to fine, at a step schedule's rates.

Wu et al., "A Multigrid Method for Efficiently Training Video Models", arXiv:1912.00998, section 3,
and its authors' SlowFast code. The rates fall by gamma at M milestones. In each stage but the last
the long cycle walks through its lengths f, 1/8, 1/4, 1/2 and 1 of the context, each for as many
steps; within it the steps of the short cycle take min(g, f) for its lengths g, 1/4 and 1/2, and f
itself. A batch has 1 / min(g, f) as many sequences, so that a step trains on as many tokens:

    stage k < M, length f    peak · gamma^k · s(1 / f)          s(b) = b, sqrt(b) or 1
    fine-tuning, f = 1       peak · gamma^(M - 1), second half peak · gamma^M

The short cycle does not change the rate. A step's batch is the one of whole sequences, each cut
into pieces (`Multigrid.pieces`, `Batch.cut`): seed and step say which, no token is lost, and
attention ends at a piece's beginning.

Differs from the paper: a text has one length where a clip has frames and a size, and is cut, where
clips are sampled more coarsely. The pieces of a sequence are in one batch. The milestones are those
of the authors' Kinetics schedule, in which the fine-tuning, too, has its stage's share of steps.
"""

from __future__ import annotations

import math

from graftwork.spec.schedule import Multigrid
from graftwork_train.schedules.base import rate, warmup


@rate.register
def multigrid(method: Multigrid, step: int, total: int, tokens_per_step: int) -> float:
    """The rate of a step, that of the long cycle's batch."""
    stage, number = method.place(step, total)
    larger = 1 / method.long[number]
    scale = {"linear": larger, "sqrt": math.sqrt(larger), "none": 1.0}[method.lr_scaling]
    high = method.peak * method.gamma**stage * scale
    rising = warmup(high, method.start, method.warmup.steps(total, tokens_per_step), step)
    return high if rising is None else rising
