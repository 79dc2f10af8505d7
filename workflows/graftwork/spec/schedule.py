"""Words for learning-rate schedules: pure functions of the step."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import AS_TUPLE, LATER, Method, Paper
from graftwork.units import Extent, Share

_WARMUP = Extent.parse("2%")
_NONE = Extent.parse("0 steps")
Shares = Annotated[tuple[Share, ...], AS_TUPLE]


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

    def pieces(self, step: int, total: int) -> int:
        """Into how many equal pieces a step cuts its sequences, each a sequence of its own."""
        return 1

    def mean_context(self, context: int) -> float:
        """Tokens of a sequence in the mean over the stage's steps."""
        return context

    def problems(self, context: int) -> Iterator[str]:
        """Why sequences of `context` tokens do not go with the schedule."""
        yield from ()


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
    past: Annotated[Extent, LATER] = _NONE
    """Training before this stage under the same cosine, in steps of this stage's batch or tokens: a
    `continue` stage that goes on in it writes what came before, and `optimizer_state: keep`."""
    ahead: Annotated[Extent, LATER] = _NONE
    """Training after this stage under the same cosine: what a `continue` stage adds with `past`."""

    @model_validator(mode="after")
    def _spans_are_counted(self) -> Self:
        for key, span in (("past", self.past), ("ahead", self.ahead)):
            if span.unit == "share":
                raise ValueError(
                    f"{key} lies outside the stage, so that it is no share of it; "
                    f"write for example '1000 steps'"
                )
        return self

    def parts(self) -> dict[str, Extent]:
        """The warmup counts where it is not over, in part or whole, before the stage."""
        return {} if self.past.amount else {"warmup": self.warmup}


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


class Multigrid(_Schedule):
    """Short sequences in large batches first, coarse to fine, at a step schedule's rates."""

    paper: ClassVar[Paper] = Paper(
        "A Multigrid Method for Efficiently Training Video Models", "1912.00998", "3", number="1"
    )
    name: Literal["multigrid"]
    peak: float = Field(default=1e-3, gt=0, le=1)
    """Learning rate of the first stage of rates, for whole sequences."""
    milestones: Shares = (0.39, 0.64, 0.82)
    """Where the rate falls, as shares of the steps. What lies before the last of them are stages
    that each walk through `long`; the rest is fine-tuning on whole sequences."""
    gamma: float = Field(default=0.1, gt=0, le=1)
    """Factor of the rate from one stage to the next."""
    long: Shares = (0.125, 0.25, 0.5, 1.0)
    """The long cycle: lengths of sequences as shares of the context, rising to 100%; each has as
    many steps of a stage as any other. A sequence of half the length counts half in a batch."""
    short: Shares = (0.25, 0.5)
    """The short cycle: step by step these lengths, then the long cycle's; none is longer than
    that."""
    lr_scaling: Literal["linear", "sqrt", "none"] = "linear"
    """How the rate grows with the sequences of the long cycle's batch: with their number, as in
    the paper, which trains by SGD; with its root, which suits AdamW; or not at all."""

    @model_validator(mode="after")
    def _shapes(self) -> Self:
        for key in ("long", "short", "milestones"):
            values = getattr(self, key)
            if list(values) != sorted(set(values)) or not all(0 < value <= 1 for value in values):
                raise ValueError(f"{key} must rise, above 0% and to 100% at most")
        if self.long[-1:] != (1.0,):
            raise ValueError("the long cycle must end on whole sequences; add 100% to long")
        if not self.milestones or self.milestones[-1] == 1:
            raise ValueError("milestones must lie inside the stage; write for example [50%, 80%]")
        for value in (*self.long, *self.short):
            if Fraction(value).limit_denominator(4096).numerator != 1:
                raise ValueError(
                    f"a length of {value:.4g} of the context cuts no sequence into equal pieces; "
                    f"use for example 50%, 25% or 12.5%"
                )
        return self

    def place(self, step: int, total: int) -> tuple[int, int]:
        """Stage of the rates, counted from 0, and number of the long cycle's length, of a step.

        Within a stage all lengths have equally many steps, up to one. The fine-tuning is at the
        rate of the stage before for its first half.
        """
        edges = [0, *(round(share * total) for share in self.milestones), total]
        stage = max(n for n, begin in enumerate(edges[:-1]) if begin <= min(step, total - 1))
        begin, end = edges[stage], max(edges[stage] + 1, edges[stage + 1])
        if stage == len(self.milestones):
            late = 2 * (step - begin) >= end - begin
            return (stage if late else stage - 1), len(self.long) - 1
        return stage, (step - begin) * len(self.long) // (end - begin)

    def cuts(self, number: int) -> tuple[int, ...]:
        """Into how many pieces the steps of a short cycle cut, at a length of the long one."""
        most = round(1 / self.long[number])
        return (*(max(most, round(1 / share)) for share in self.short), most)

    def pieces(self, step: int, total: int) -> int:
        """As of all schedules."""
        cuts = self.cuts(self.place(step, total)[1])
        return cuts[step % len(cuts)]

    def mean_context(self, context: int) -> float:
        """As of all schedules, up to the steps that a stage does not divide evenly."""
        means = [
            sum(1 / n for n in self.cuts(k)) / len(self.cuts(k)) for k in range(len(self.long))
        ]
        cycled = self.milestones[-1]
        return context * (cycled * sum(means) / len(means) + (1 - cycled) * means[-1])

    def problems(self, context: int) -> Iterator[str]:
        """As of all schedules."""
        for share in (*self.long, *self.short):
            cut = round(1 / share)
            if context % cut:
                yield (
                    f"sequences of {context} tokens do not come in {cut} equal pieces; choose "
                    f"other lengths, or prepare the data with a context that {cut} divides"
                )


class AccelAt(_Schedule):
    """A constant rate that a controller lowers once the held-out measure gains little more."""

    paper: ClassVar[Paper] = Paper(
        "AccelAT: A Framework for Accelerating the Adversarial Training of Deep Neural Networks "
        "through Accuracy Gradient",
        "2210.06888",
        number="69",
    )
    name: Literal["accelat"]
    peak: float = Field(default=1e-3, gt=0, le=1)
    """Learning rate before the first decay."""
    every: Extent = Extent.parse("2%")
    """Training between two looks at the held-out text: what an epoch is in the paper."""
    metric: Literal["likelihood", "loss"] = "likelihood"
    """What is watched: the geometric mean of the probability of the right token, between 0 and 1
    as the paper's accuracy is, or the held-out loss in nats, of which less is a gain."""
    window: int = Field(default=5, ge=1)
    """Looks in the running mean, and means on record before the first decay."""
    quiet: int = Field(default=5, ge=0)
    """Looks after a decay before the next."""
    gain: float = Field(default=0.005, ge=0)
    """A gain of the running mean below this is little."""
    factor: float = Field(default=0.8, gt=0, lt=1)
    """Factor of a decay."""
    lowest: float = Field(default=1e-6, ge=0, le=1)
    """The decays end at this learning rate."""

    @model_validator(mode="after")
    def _looks(self) -> Self:
        if not self.every.amount:
            raise ValueError("every must be above 0; write for example '50 steps' or '2%'")
        return self


Schedule = Annotated[
    Cosine | Rewarm | Redecay | Wsd | InverseSqrt | Power | Infinite | Multigrid | AccelAt,
    Field(discriminator="name"),
]
