"""Words for going on with a trained model: methods of the stage `continue`."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import Contract, Method, ModelRef, Paper
from graftwork.spec.cost import Cost
from graftwork.spec.mixture import Weights

Moments = Literal["reset", "keep"]


class Continuer(Method):
    """What all methods of going on share.

    Attributes:
        moments: What the paper does with the optimizer's moments. Where that is not the stage's
            default, the spec must say which it wants.
        replays: Whether the method replays older data itself, so that `replay` would be twice.
        arranges: Whether it says which of the new sequences come when, so that `mixture` cannot.
    """

    contract: ClassVar[Contract | None] = "none"
    moments: ClassVar[Moments] = "reset"
    replays: ClassVar[bool] = False
    arranges: ClassVar[bool] = False

    def cost(self, per_token: float, steps: int, tokens_per_step: int) -> Cost:
        """What a training costs.

        Args:
            per_token: FLOPs of one token, for the model without the method.
            steps: Optimizer steps of the whole training.
            tokens_per_step: Of one of them.
        """
        return Cost(per_token)


class StabilityGap(Continuer):
    """Several epochs over the subset of the new data that a reference model finds easiest."""

    paper: ClassVar[Paper] = Paper(
        "Efficient Continual Pre-training by Mitigating the Stability Gap",
        "2406.14833",
        "4",
        number="16",
    )
    arranges: ClassVar[bool] = True
    name: Literal["stability_gap"]
    epochs: int = Field(default=4, ge=1)
    """Passes over the subset, which is as large as the budget then allows. The paper: 4, over 5B
    of 50B tokens."""
    scorer: ModelRef | None = None
    """Model of good text of the new kind, by whose perplexity sequences are ranked."""
    choose: Literal["lowest", "random", "highest"] = "lowest"
    """Which sequences make the subset: those of the lowest perplexity, as in the paper, or, as
    controls, any, or those of the highest."""
    rest: Weights | None = None
    """Share of each domain in the replayed sequences, to come near the mixture of pre-training.
    Default: by the domains' sizes."""

    @model_validator(mode="after")
    def _ranked(self) -> Self:
        if (self.scorer is None) != (self.choose == "random"):
            missing = self.scorer is None
            raise ValueError(
                f"choose is {self.choose!r}, and {'no' if missing else 'a'} model scores; "
                f"{'name one in scorer, or write random' if missing else 'take scorer out'}"
            )
        return self


Continuing = StabilityGap
