"""Warmup, cooldown to a constant rate that may last for ever, and an exponential annealing.

Singh et al., "Beyond Cosine Decay: On the effectiveness of Infinite Learning Rate Schedule for
Continual Pre-training", arXiv:2503.02844. With W steps of warmup, C of cooldown, A of annealing and
T in all:

    t < W            peak · (start + (1 - start) · t / W)
    t < W + C        cosine         constant + (peak - constant) / 2 · (1 + cos(pi · x))
                     inverse_sqrt   peak + (constant - peak) · f(x) / f(1)
    t < T - A        constant
    T - A <= t       constant · (floor / constant)^y

    x = (t - W) / C,   y = (t - (T - A)) / A,   f(x) = 1 / sqrt(1 + steepness · x) - 1

A further corpus goes on from the model before the annealing, at the constant rate and with the
optimizer's moments (`optimizer_state: keep`, no warmup, no cooldown); the annealing is a branch
that makes the model to use.

Differs from the paper: its own values were not seen. The lengths' and rates' defaults are those of
the infinite schedules in Ibrahim et al., arXiv:2403.08763, and of public training code.
"""

from __future__ import annotations

import math

from graftwork.spec.schedule import Infinite
from graftwork_train.schedules.base import exponential, half_cosine, rate, warmup


@rate.register
def infinite(method: Infinite, step: int, total: int, tokens_per_step: int) -> float:
    """The rate of a step; `floor * peak` at step `total` and after, where there is an annealing."""
    length = method.warmup.steps(total, tokens_per_step)
    rising = warmup(method.peak, method.start, length, step)
    if rising is not None:
        return rising
    constant = method.constant * method.peak
    cooling = method.cooldown.steps(total, tokens_per_step)
    # An annealing that would begin before the cooldown ends begins then.
    annealing = method.anneal.steps(total, tokens_per_step)
    begin = max(length + cooling, total - annealing)
    if annealing and step >= begin:
        progress = (step - begin) / max(1, total - begin)
        return exponential(constant, method.floor * method.peak, progress)
    if step >= length + cooling:
        return constant
    return _cooldown(method, (step - length) / cooling)


def _cooldown(method: Infinite, progress: float) -> float:
    """From the peak at progress 0 to the constant rate at 1."""
    peak, constant = method.peak, method.constant * method.peak
    if method.shape == "cosine":
        return half_cosine(peak, constant, progress)
    fallen = _fall(method.steepness, progress) / _fall(method.steepness, 1.0)
    return peak + (constant - peak) * fallen


def _fall(steepness: float, progress: float) -> float:
    return 1 / math.sqrt(1 + steepness * progress) - 1
