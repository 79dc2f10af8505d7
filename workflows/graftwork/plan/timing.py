"""When to stack, and how often: the two fits of G_stack.

Stacking Your Transformers: A Closer Look at Model Growth for Efficient LLM Pre-Training,
arXiv:2405.15319. The fit says for how many tokens d the small base should train before it is
stacked into a model of N parameters that C = 6·N·D FLOPs are to be spent on:

    log10 d = 0.88·log10 N + 163.27 / log10 C − 5.74

and the other, which the authors call preliminary, how many times as deep that model is to be:

    log10 g = 1.01·log10 N − 29.88 / log10 C − 7.36

The paper trains models of 410M to 7B parameters and applies the fits up to 70B. The second term
grows without bound for small C, so that for toy models the first fit asks for a base that trains
longer than the model it is for, and the other for a factor of nothing; for large ones it asks for
more than the 2 to 4 that the paper finds best. Both are therefore clamped, told with the plan, and
decide nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# A clamp of ours: the paper's own runs of 97.5B tokens train the base for 10B.
LARGEST_SHARE = 0.1
# Where the paper finds the best factors; it recommends 4.
FEWEST, MOST = 2, 4
# Sizes of the models that the paper trains (from) and applies the fit to (to).
FROM_PARAMETERS = 4.1e8
TO_PARAMETERS = 7e10


@dataclass(frozen=True, slots=True)
class Timing:
    """When to stack.

    Attributes:
        fitted: Tokens by the fit alone.
        tokens: Tokens to train the base for: the fit, but at most a tenth of the target's.
        in_range: Whether the model is of a size that the paper used the fit for.
    """

    fitted: float
    tokens: float
    in_range: bool

    @property
    def clamped(self) -> bool:
        """Whether the fit asks for more than the clamp lets through."""
        return self.tokens < self.fitted


@dataclass(frozen=True, slots=True)
class Factor:
    """How many times as deep.

    Attributes:
        fitted: By the fit alone.
        clamped: The nearest that the paper finds good.
    """

    fitted: float
    clamped: float


def growth_factor(parameters: float, tokens: float) -> Factor:
    """How many times as deep the stacked model should be as its base; never a default.

    Args:
        parameters: N, of the model after stacking.
        tokens: D, that the model after stacking is to be trained on in all.

    Raises:
        ValueError: as `growth_timing`.
    """
    compute = _compute(parameters, tokens)
    exponent = 1.01 * math.log10(parameters) - 29.88 / math.log10(compute) - 7.36
    fitted = 10.0 ** max(exponent, -300.0)
    return Factor(fitted, min(max(fitted, FEWEST), MOST))


def _compute(parameters: float, tokens: float) -> float:
    if parameters <= 0 or tokens <= 0 or 6 * parameters * tokens <= 10:
        raise ValueError(f"no growth timing for {parameters} parameters and {tokens} tokens")
    return 6 * parameters * tokens


def growth_timing(parameters: float, tokens: float) -> Timing:
    """Tokens to train the base of a stacked model for.

    Args:
        parameters: N, of the model after stacking.
        tokens: D, that the model after stacking is to be trained on in all.

    Raises:
        ValueError: an argument is not above zero, or 6·N·D is not above 10 FLOPs.
    """
    compute = _compute(parameters, tokens)
    exponent = 0.88 * math.log10(parameters) + 163.27 / math.log10(compute) - 5.74
    # A toy's exponent can be in the hundreds, beyond what a float holds as a power.
    fitted = 10.0 ** min(exponent, 300.0)
    in_range = FROM_PARAMETERS <= parameters <= TO_PARAMETERS
    return Timing(fitted, min(fitted, LARGEST_SHARE * tokens), in_range)
