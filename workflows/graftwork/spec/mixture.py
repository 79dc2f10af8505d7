"""Words for mixtures: how much of each domain a training sees, and from when on."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, Discriminator, Tag

from graftwork.spec.base import AS_TUPLE, Strict
from graftwork.units import Extent, Share

# Weights are whole hundredths of a percent, so that the order of domains repeats after at most
# this many sequences and any step is found without replaying those before it.
PARTS = 10_000


def _check_weights(weights: Mapping[str, float]) -> Mapping[str, float]:
    if not weights:
        raise ValueError("a mixture names no domain; write for example {prose: 70%, code: 30%}")
    for domain, weight in weights.items():
        if abs(weight * PARTS - round(weight * PARTS)) > 1e-6:
            raise ValueError(
                f"the weight of {domain} is finer than a hundredth of a percent; "
                f"write {round(weight, 4):.2%}"
            )
    total = sum(weights.values())
    if round(total * PARTS) != PARTS:
        raise ValueError(f"the weights add up to {total:.6g} and not to 100%; change one of them")
    return weights


Weights = Annotated[dict[str, Share], AfterValidator(_check_weights)]


class Phase(Strict):
    """Weights that hold from some point of the stage's training on."""

    at: Extent
    """Where they begin: `0%`, `3000 steps` or `1B tokens`."""
    weights: Weights
    """Share of each domain in the new sequences; 100% together."""


def _check_phases(phases: tuple[Phase, ...]) -> tuple[Phase, ...]:
    if not phases:
        raise ValueError("a mixture has no phase; write for example {prose: 70%, code: 30%}")
    if phases[0].at.amount:
        raise ValueError(
            f"the first phase of a mixture begins at {phases[0].at}; write 'at: 0%' for it"
        )
    for one, other in pairwise(phases):
        if one.at.unit == other.at.unit and one.at.amount >= other.at.amount:
            raise ValueError(
                f"a phase at {other.at} comes after one at {one.at}; put them in order, "
                f"each at a point of its own"
            )
    return phases


def _tag(value: Any) -> str:  # noqa: ANN401 - raw input of any type
    return "phases" if isinstance(value, list | tuple) else "weights"


Mixture = Annotated[
    Annotated[Weights, Tag("weights")]
    | Annotated[
        tuple[Phase, ...],
        AS_TUPLE,
        AfterValidator(_check_phases),
        Tag("phases"),
    ],
    Discriminator(_tag),
]


def phases_of(mixture: Mapping[str, float] | tuple[Phase, ...]) -> tuple[Phase, ...]:
    """A mixture as phases; weights alone are one phase from the beginning."""
    if isinstance(mixture, tuple):
        return mixture
    return (Phase(at=Extent.parse("0%"), weights=dict(mixture)),)
