"""The verb of all schedules: `rate`, a pure function of the step. Floats only, no torch."""

from __future__ import annotations

from functools import singledispatch

from graftwork.spec.schedule import Schedule


@singledispatch
def rate(method: Schedule, step: int, total: int, tokens_per_step: int) -> float:
    """The learning rate of a step.

    Args:
        method: The schedule.
        step: From 0. The value at `total` is the one that the schedule ends on.
        total: Optimizer steps of the stage.
        tokens_per_step: What one step trains on, for lengths that are given in tokens.
    """
    raise TypeError(f"no schedule is a {type(method).__name__}; is it imported in schedules?")


def warmup(peak: float, start: float, length: int, step: int) -> float | None:
    """The linear rise from `start`·`peak` at step 0 to the peak at step `length`.

    None where the rise is over.
    """
    if step >= length:
        return None
    return peak * (start + (1 - start) * step / length)
