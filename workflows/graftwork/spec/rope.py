"""Words for rotary positions beyond the length that a model was trained on."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import Strict


class Linear(Strict):
    """Positions divided by a factor."""

    name: Literal["linear"]
    factor: float = Field(ge=1)
    """How many times longer sequences become."""


class Dynamic(Strict):
    """A larger base for sequences beyond the model's context; shorter ones stay as they are."""

    name: Literal["dynamic"]
    factor: float = Field(ge=1)
    """How fast the base grows with the length."""


class Yarn(Strict):
    """YaRN: low frequencies divided by a factor, high ones kept, a ramp between."""

    name: Literal["yarn"]
    factor: float = Field(ge=1)
    """How many times longer sequences become."""
    original: int = Field(ge=16)
    """Tokens of a sequence that the model was first trained on."""
    beta_fast: float = Field(default=32.0, gt=0)
    """Turns over `original` positions above which a frequency is kept."""
    beta_slow: float = Field(default=1.0, gt=0)
    """Turns below which a frequency is divided."""
    attention_factor: float | None = Field(default=None, gt=0)
    """Scale of queries and keys. Default: 0.1·ln(factor) + 1."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.beta_slow >= self.beta_fast:
            raise ValueError(
                f"beta_slow is {self.beta_slow:g}, not below the beta_fast of {self.beta_fast:g}; "
                f"use 1 and 32, as the paper does"
            )
        return self


class Llama3(Strict):
    """Llama 3's: long wavelengths divided by a factor, short ones kept, a ramp between."""

    name: Literal["llama3"]
    factor: float = Field(ge=1)
    """How many times longer sequences become."""
    original: int = Field(ge=16)
    """Tokens of a sequence that the model was first trained on."""
    low_frequency: float = Field(default=1.0, gt=0)
    """Turns over `original` positions below which a frequency is divided."""
    high_frequency: float = Field(default=4.0, gt=0)
    """Turns above which a frequency is kept."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low_frequency >= self.high_frequency:
            raise ValueError(
                f"low_frequency is {self.low_frequency:g}, not below the high_frequency of "
                f"{self.high_frequency:g}; use 1 and 4, as Llama 3 does"
            )
        return self


RopeScaling = Annotated[Linear | Dynamic | Yarn | Llama3, Field(discriminator="name")]
