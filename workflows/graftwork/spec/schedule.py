"""Words for learning-rate schedules: pure functions of the step."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from graftwork.spec.base import Method, Paper
from graftwork.units import Extent, Share

_WARMUP = Extent.parse("2%")


class _Schedule(Method):
    peak: float = Field(default=1e-3, gt=0, le=1)
    """Highest learning rate."""
    warmup: Extent = _WARMUP
    """Length of the linear rise to the peak."""
    start: Share = 0.0
    """Where the warmup begins, as a share of the peak. 0 re-warms from nothing; a continued
    stage that re-warms from its old floor writes that floor, for example 10%."""


class Cosine(_Schedule):
    """Linear warmup, then half a cosine down to the floor."""

    paper: ClassVar[Paper] = Paper(
        "Simple and Scalable Strategies to Continually Pre-train Large Language Models",
        "2403.08763",
        "4.1",
        number="X6",
    )
    name: Literal["cosine"]
    floor: Share = 0.1
    """Learning rate at the end, as a share of the peak."""


class Wsd(_Schedule):
    """Warmup, a constant peak, then a decay over the last part: warmup-stable-decay."""

    paper: ClassVar[Paper] = Paper(
        "MiniCPM: Unveiling the Potential of Small Language Models", "2404.06395", "4"
    )
    name: Literal["wsd"]
    decay: Extent = Extent.parse("20%")
    """Length of the decay at the end."""
    shape: Literal["linear", "sqrt"] = "sqrt"
    """Form of the decay: linear, or 1 minus the square root of its progress."""
    floor: Share = 0.0
    """Learning rate at the end, as a share of the peak."""


Schedule = Annotated[Cosine | Wsd, Field(discriminator="name")]
