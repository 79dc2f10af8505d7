"""Words for mixtures of experts."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import Strict


class Experts(Strict):
    """A mixture of experts in place of the feed-forward blocks."""

    count: int = Field(ge=2, le=4096)
    """Number of experts in a layer."""
    top_k: int = Field(default=2, ge=1)
    """Experts that each token is sent to."""
    width: int | None = Field(default=None, ge=8, le=16_777_216)
    """Inner size of each expert. Default: the feed-forward block's (`ffn`)."""
    shared: int = Field(default=0, ge=0, le=64)
    """Experts that every token passes besides the chosen ones, of the same inner size."""
    weights: Literal["renormalised", "plain", "after_top_k"] = "renormalised"
    """How the chosen experts are weighted: by a softmax over all experts, `renormalised` to sum to
    1 or `plain`; or by a softmax over the chosen ones' scores alone (`after_top_k`)."""
    balance: float = Field(default=0.01, ge=0)
    """Weight of the auxiliary loss that keeps the experts' loads equal."""
    z_loss: float = Field(default=0.0, ge=0)
    """Weight of the loss that keeps the router's scores small."""
    bias_rate: float = Field(default=0.0, ge=0, lt=1)
    """Step of the biases that balance loads without a loss: after every optimizer step, that of an
    expert with less than the mean load rises by this much, and that of one with more falls. They
    decide which experts are chosen, not how those are weighted. 0: no biases."""
    capacity: float | None = Field(default=None, gt=0, le=4096)
    """Tokens that an expert takes at most, in multiples of the mean load; later ones pass it by.
    Default: no limit, no token is dropped."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.top_k > self.count:
            raise ValueError(
                f"top_k is {self.top_k}, but there are only {self.count} experts; "
                f"use at most {self.count}"
            )
        return self
