"""What a training does about steps that go wrong."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from graftwork.spec.base import Strict

OnBadStep = Literal["stop", "skip", "rewind"]


class Spike(Strict):
    """When a loss is a spike, and what happens then."""

    factor: float = Field(default=2.0, gt=1)
    """A step's loss is a spike above so many times the median of the losses before it."""
    window: int = Field(default=64, ge=4, le=4096)
    """Steps whose losses the median is taken of; before so many, nothing is a spike."""
    action: OnBadStep = "skip"
    """`skip` leaves the step's update out, `rewind` goes on from the last checkpoint's weights
    with the data after the spike, `stop` fails the stage."""
