"""A power law of the tokens, times the batch size, below a cap; then an exponential decay.

Shen et al., "Power Scheduler: A Batch Size and Token Number Agnostic Learning Rate Scheduler",
arXiv:2408.13359. With n tokens so far, batches of beta sequences of 4096 tokens, N_w tokens of
warmup, N_d of decay and N in all, and x = (n - (N - N_d)) / N_d:

    eta(n) = min(peak, beta · scale · n^exponent)

    n < N_w         eta(N_w) · (start + (1 - start) · n / N_w)
    n < N - N_d     eta(n)
    n >= N - N_d    eta(N - N_d) · floor^x

n counts on from `past`, and beta is a step's tokens by 4096, so that shorter sequences count for
what they hold. Before the decay the rate does not depend on N.

The constants are those of maximal-update parametrisation, as in the paper: write
`parametrisation: {name: mup}` beside. Without it, choose `peak` and `scale` anew.

Differs from the paper: the decay ends on a floor, since an exponential never reaches 0.
"""

from __future__ import annotations

from graftwork.spec.schedule import Power
from graftwork_train.schedules.base import exponential, rate, warmup

SEQUENCE = 4096
"""Tokens of the sequences that the law's batch is counted in."""


@rate.register
def power(method: Power, step: int, total: int, tokens_per_step: int) -> float:
    """The rate of a step; `floor` of the law's rate at step `total` and after."""
    past = method.past.steps(total, tokens_per_step)
    length = method.warmup.steps(total, tokens_per_step)
    counted = past + step
    rising = warmup(_law(method, length, tokens_per_step), method.start, length, counted)
    if rising is not None:
        return rising
    # A decay that would begin inside the warmup begins when that is over.
    begin = max(length - past, total - method.decay.steps(total, tokens_per_step))
    if step < begin:
        return _law(method, counted, tokens_per_step)
    high = _law(method, past + begin, tokens_per_step)
    return exponential(high, method.floor * high, (step - begin) / max(1, total - begin))


def _law(method: Power, steps: int, tokens_per_step: int) -> float:
    """The rate of the law after so many steps, at most the peak."""
    if steps == 0:
        return method.peak
    batch = tokens_per_step / SEQUENCE
    law = batch * method.scale * (steps * tokens_per_step) ** method.exponent
    return float(min(method.peak, law))
