"""Words for learning-rate schedules: pure functions of the step."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import Method, Paper
from graftwork.units import Extent, Share

_WARMUP = Extent.parse("2%")
_NONE = Extent.parse("0 steps")


class _Schedule(Method):
    peak: float = Field(default=1e-3, gt=0, le=1)
    """Highest learning rate."""
    warmup: Extent = _WARMUP
    """Length of the linear rise to the peak."""
    start: Share = 0.0
    """Where the warmup begins, as a share of the peak. 0 re-warms from nothing; a continued
    stage that re-warms from its old floor writes that floor, for example 10%."""

    def parts(self) -> dict[str, Extent]:
        """The parts that have to find room in the budget of the stage, by name."""
        return {"warmup": self.warmup}


class _Ongoing(_Schedule):
    """A schedule that counts on from what was trained before the stage."""

    past: Extent = _NONE
    """Training before this stage that the schedule counts on from, in tokens, or in steps of this
    stage's batch. A `continue` stage that goes on in the schedule writes what came before."""

    @model_validator(mode="after")
    def _past_is_counted(self) -> Self:
        if self.past.unit == "share":
            raise ValueError(
                "past lies before the stage, so that it is no share of it; "
                "write for example '1B tokens'"
            )
        return self

    def parts(self) -> dict[str, Extent]:
        """The warmup counts where it is not over, in part or whole, before the stage."""
        return {} if self.past.amount else {"warmup": self.warmup}


class Cosine(_Schedule):
    """Linear warmup, then half a cosine down to the floor."""

    paper: ClassVar[Paper] = Paper(
        "SGDR: Stochastic Gradient Descent with Warm Restarts", "1608.03983", "3"
    )
    name: Literal["cosine"]
    floor: Share = 0.1
    """Learning rate at the end, as a share of the peak."""


class Rewarm(_Schedule):
    """Re-warming of a trained model: up from nothing once more, then half a cosine down."""

    paper: ClassVar[Paper] = Paper(
        "Continual Pre-Training of Large Language Models: How to (re)warm your model?",
        "2308.04014",
        number="2",
    )
    name: Literal["rewarm"]
    peak: float = Field(default=3e-4, gt=0, le=1)
    """Highest learning rate. A higher one learns more of the new data and forgets more of the old;
    the paper tries 1.5e-4, 3e-4 and 6e-4 on 410M parameters."""
    warmup: Extent = Extent.parse("1%")
    """Length of the linear rise. The paper tries 0, 0.5%, 1% and 2%: little changes in the long
    run, and none at all costs a spike at the start."""
    floor: Share = 0.1
    """Learning rate at the end, as a share of the peak."""


class Redecay(_Schedule):
    """Re-warming from the floor of the training before, and re-decaying; with `replay` beside."""

    paper: ClassVar[Paper] = Paper(
        "Simple and Scalable Strategies to Continually Pre-train Large Language Models",
        "2403.08763",
        "4.1",
        number="X6",
    )
    name: Literal["redecay"]
    peak: float = Field(default=3e-4, gt=0, le=1)
    """Highest learning rate. The paper: 3e-4 for 405M parameters, 1.2e-4 for 10B."""
    warmup: Extent = Extent.parse("1%")
    """Length of the linear rise from the floor."""
    start: Share = 0.1
    """Where the warmup begins, as a share of the peak: the floor of the training before."""
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
    shape: Literal["linear", "sqrt", "exponential"] = "sqrt"
    """Form of the decay: linear, 1 minus the square root of its progress, or exponential, which
    needs a floor above 0."""
    floor: Share = 0.0
    """Learning rate at the end, as a share of the peak."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.shape == "exponential" and self.floor <= 0:
            raise ValueError(
                "an exponential decay never reaches a floor of 0; write for example 'floor: 1%'"
            )
        return self

    def parts(self) -> dict[str, Extent]:
        """Warmup and decay."""
        return {"warmup": self.warmup, "decay": self.decay}


class InverseSqrt(_Ongoing):
    """Linear warmup, then down with the inverse square root of the steps; it has no end."""

    paper: ClassVar[Paper] = Paper("Attention Is All You Need", "1706.03762", "5.3")
    name: Literal["inverse_sqrt"]


class Power(_Ongoing):
    """A power law of the tokens, times the batch size, below a cap; then an exponential decay."""

    paper: ClassVar[Paper] = Paper(
        "Power Scheduler: A Batch Size and Token Number Agnostic Learning Rate Scheduler",
        "2408.13359",
        number="70",
    )
    name: Literal["power"]
    peak: float = Field(default=0.02, gt=0, le=1)
    """Cap of the learning rate. The paper's 0.02 is meant for `parametrisation: {name: mup}`."""
    warmup: Extent = Extent.parse("1B tokens")
    """Length of the linear rise to the rate of the law at its end."""
    scale: float = Field(default=4.0, gt=0)
    """Factor of the law, for a batch in sequences of 4096 tokens. Found with
    `parametrisation: {name: mup}`; without it, another factor fits."""
    exponent: float = Field(default=-0.51, gt=-2, lt=0)
    """Exponent of the tokens. The paper's optima lie between -0.53 and -0.49."""
    decay: Extent = Extent.parse("10%")
    """Length of the exponential decay at the end of the stage; 0% for none."""
    floor: Share = 0.01
    """Learning rate at the end, as a share of the one at which the decay begins. The paper decays
    to about 0, which an exponential does not reach."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.floor <= 0:
            raise ValueError(
                "an exponential decay never reaches a floor of 0; write for example 'floor: 1%'"
            )
        return self

    def parts(self) -> dict[str, Extent]:
        """Warmup and decay."""
        return {**super().parts(), "decay": self.decay}


class Infinite(_Schedule):
    """Warmup, cooldown to a constant rate that may last for ever, and an exponential annealing."""

    paper: ClassVar[Paper] = Paper(
        "Beyond Cosine Decay: On the effectiveness of Infinite Learning Rate Schedule for "
        "Continual Pre-training",
        "2503.02844",
        number="44",
    )
    name: Literal["infinite"]
    peak: float = Field(default=3e-4, gt=0, le=1)
    """Highest learning rate."""
    warmup: Extent = Extent.parse("1%")
    """Length of the linear rise to the peak. In steps or tokens, the rate does not depend on the
    budget before the annealing. A `continue` stage that goes on at the constant rate writes
    `0 steps` here and for `cooldown`, and `optimizer_state: keep`."""
    cooldown: Extent = Extent.parse("60%")
    """Length of the way from the peak to the constant rate."""
    shape: Literal["cosine", "inverse_sqrt"] = "cosine"
    """Form of the cooldown."""
    steepness: float = Field(default=10.0, gt=0)
    """How early an inverse square root cools down. A choice of ours."""
    constant: Share = 0.55
    """The constant rate, as a share of the peak: the mean of peak and floor."""
    anneal: Extent = Extent.parse("15%")
    """Length of the annealing at the end; `0 steps` leaves a model to go on from, and a
    `continue` stage of which all is annealing makes the one to use."""
    floor: Share = 0.1
    """Learning rate at the end of the annealing, as a share of the peak; above 0."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 < self.floor <= self.constant:
            raise ValueError(
                f"a floor of {self.floor:.3g} is not above 0 and at most the constant rate of "
                f"{self.constant:.3g} (shares of the peak); write for example 'floor: 10%'"
            )
        return self

    def parts(self) -> dict[str, Extent]:
        """Warmup, cooldown and annealing."""
        return {"warmup": self.warmup, "cooldown": self.cooldown, "anneal": self.anneal}


Schedule = Annotated[
    Cosine | Rewarm | Redecay | Wsd | InverseSqrt | Power | Infinite, Field(discriminator="name")
]
