"""What a training costs, where that changes from step to step."""

from __future__ import annotations

from dataclasses import dataclass

Phases = tuple[tuple[int, float], ...]
"""From which optimizer step on, which share of the maskable weights is kept; the first is 0."""

DENSE: Phases = ((0, 1.0),)


def density_at(phases: Phases, step: int) -> float:
    """The share of the maskable weights that is kept during an optimizer step, counted from 0."""
    return next(kept for begin, kept in reversed(phases) if begin <= step)


def mean_density(phases: Phases, steps: int) -> float:
    """The mean of that share over the first `steps` optimizer steps; before any, the first."""
    if not steps:
        return phases[0][1]
    ends = [begin for begin, _ in phases[1:]] + [steps]
    spent = (
        kept * max(0, min(end, steps) - begin)
        for (begin, kept), end in zip(phases, ends, strict=True)
    )
    return sum(spent) / steps


@dataclass(frozen=True, slots=True)
class Cost:
    """The FLOPs of a training, masked weights not counted.

    Attributes:
        per_token: Of one token, for the dense model.
        maskable: Weights that masks may hold at zero; each saves 6 FLOPs a token.
        phases: What share of them is kept, and when.
        per_step: Besides, once an optimizer step, whatever the batch.
    """

    per_token: float
    maskable: int = 0
    phases: Phases = DENSE
    per_step: float = 0.0

    def flops(self, steps: int, tokens_per_step: int) -> float:
        """Of the first `steps` optimizer steps."""
        held = (1.0 - mean_density(self.phases, steps)) * self.maskable
        each = tokens_per_step * (self.per_token - 6 * held) + self.per_step
        return steps * each
