"""Words for mixtures of experts."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import Strict


class AdaptiveBalance(Strict):
    """A weight of the balance loss for each layer, which follows what a capacity drops there.

    Wei et al. 2024, Skywork-MoE, arXiv:2406.06563: after every optimizer step the weight becomes
    `memory` times itself and the rest `rate` times the share of assignments beyond the capacity,
    `most` at most. The weights begin at `balance` and are kept with the model.
    """

    rate: float = Field(default=0.2, gt=0, le=1000)
    """Weight for each share of assignments that is dropped."""
    most: float = Field(default=0.01, gt=0, le=1000)
    """Largest weight."""
    memory: float = Field(default=0.99, ge=0, lt=1)
    """Share of a layer's weight that stays from step to step."""


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
    every: int = Field(default=1, ge=1, le=10_000)
    """Blocks for each one that has experts, the last of them; the others are dense."""
    logit_norm: float | None = Field(default=None, gt=0, le=1000)
    """Brings each token's scores of the experts to mean 0 and this standard deviation. Default:
    scores are taken as they are."""
    adaptive: AdaptiveBalance | None = None
    """Lets the weight of the balance loss follow what is dropped, or what a capacity of 1 would
    drop where there is none. Default: the weight is constant."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.top_k > self.count:
            raise ValueError(
                f"top_k is {self.top_k}, but there are only {self.count} experts; "
                f"use at most {self.count}"
            )
        return self
