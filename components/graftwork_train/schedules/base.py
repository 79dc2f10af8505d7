"""The verb of all schedules: `rate`, a pure function of the step. Floats only, no torch.

What a schedule does in answer to the training itself is a controller's, beside it (`controlled`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import singledispatch
from typing import Any, Protocol

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


class Controller(Protocol):
    """Changes the rate by what the held-out text says."""

    decay: float
    """What the schedule's rate is multiplied by now."""

    def due(self, step: int, total: int, tokens_per_step: int) -> bool:
        """Whether to look after so many steps."""

    def see(self, loss: float) -> None:
        """Take a look: the held-out loss in nats."""

    def details(self) -> dict[str, Any]:
        """All that it knows, as plain data."""

    def resume(self, details: Mapping[str, Any]) -> None:
        """Go on from what `details` gave."""


@singledispatch
def controlled(method: Schedule) -> Controller | None:
    """A controller for one training; most schedules have none."""
    return None


def warmup(peak: float, start: float, length: int, step: int) -> float | None:
    """The linear rise from `start`·`peak` at step 0 to the peak at step `length`.

    None where the rise is over.
    """
    if step >= length:
        return None
    return peak * (start + (1 - start) * step / length)


def half_cosine(high: float, low: float, progress: float) -> float:
    """From `high` at progress 0 to `low` at 1 and after, along half a cosine."""
    # Written as a mean of both ends, so that each of them is met exactly.
    share = (1 + math.cos(math.pi * min(1.0, progress))) / 2
    return high * share + low * (1 - share)


def exponential(high: float, low: float, progress: float) -> float:
    """From `high` at progress 0 to `low` at 1 and after, by equal factors; both above 0."""
    done = min(1.0, progress)
    return float(high ** (1 - done) * low**done)


def rise_and_fall(
    peak: float, start: float, floor: float, length: int, total: int, step: int
) -> float:
    """Up from `start`·`peak` over `length` steps, and along half a cosine to `floor`·`peak`."""
    rising = warmup(peak, start, length, step)
    if rising is not None:
        return rising
    return half_cosine(peak, floor * peak, (step - length) / max(1, total - length))
