"""Words for making one model out of several of the same shape."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import Contract, Method, Paper
from graftwork.units import Share


class Merger(Method):
    """What all methods of merging share: whether they need the model that all began from."""

    contract: ClassVar[Contract | None] = "none"
    needs_base: ClassVar[bool] = True

    def problem(self, models: int) -> str | None:
        """What is wrong with the method for so many models, if anything: `what; remedy`."""
        return None


class Average(Merger):
    """The mean of all weights."""

    paper: ClassVar[Paper] = Paper(
        "Model soups: averaging weights of multiple fine-tuned models improves accuracy without "
        "increasing inference time",
        "2203.05482",
        "2",
    )
    needs_base: ClassVar[bool] = False
    name: Literal["average"]


class TaskArithmetic(Merger):
    """Add what every model has learned since the base, scaled, to the base."""

    paper: ClassVar[Paper] = Paper("Editing Models with Task Arithmetic", "2212.04089", "2")
    name: Literal["task_arithmetic"]
    scale: float = Field(default=0.3, ge=-10, le=10)
    """What the sum of the task vectors is multiplied by. The paper tunes it on held-out data."""


class Ties(Merger):
    """Trim what every model has learned, settle on signs, and average what agrees with them."""

    paper: ClassVar[Paper] = Paper(
        "TIES-Merging: Resolving Interference When Merging Models", "2306.01708", "4"
    )
    name: Literal["ties"]
    keep: Share = Field(default=0.2)
    """Share of each task vector that is kept: its largest values, over all weights together."""
    scale: float = Field(default=1.0, ge=-10, le=10)
    """What the merged task vector is multiplied by."""

    @model_validator(mode="after")
    def _between(self) -> Self:
        _check_keep(self.keep)
        return self


class Lines(Merger):
    """Scale what was learned linearly with depth: little in early blocks, more in late ones."""

    paper: ClassVar[Paper] = Paper(
        "LiNeS: Post-training Layer Scaling Prevents Forgetting and Enhances Model Merging",
        "2410.17146",
        "4",
        number="39",
    )
    name: Literal["lines"]
    on: Literal["sum", "average", "ties"] = "sum"
    """How the task vectors of several models become one: their sum (task arithmetic), their mean,
    or TIES. For one model all are the same but `ties`, which trims."""
    keep: Share = Field(default=0.2)
    """For `ties`, the share of each task vector that is kept."""
    alpha: float | None = Field(default=None, ge=0, le=10)
    """Scale of the first block, and of all that is in no block. Default: for several models the
    paper's, by norms; one model needs it."""
    beta: float | None = Field(default=None, ge=-10, le=10)
    """What is added to alpha up to the last block. Default: for one model 1 - alpha; several
    models need it, the paper tries 0.05 to 1."""

    @model_validator(mode="after")
    def _between(self) -> Self:
        _check_keep(self.keep)
        return self

    def problem(self, models: int) -> str | None:
        """A single model needs alpha, several need beta."""
        if models == 1 and self.alpha is None:
            return (
                "lines scales a single model by an alpha that is chosen on held-out text; "
                "give alpha, the paper tries 0 to 1 in steps of 0.1"
            )
        if models > 1 and self.beta is None:
            return (
                "lines merges several models with a beta that is chosen on held-out text; "
                "give beta, the paper tries 0.05 to 1"
            )
        return None


def _check_keep(keep: float) -> None:
    if not 0 < keep <= 1:
        raise ValueError("keep must be above 0% and at most 100%; the paper keeps 20%")


def check_models(method: Merging, models: tuple[str, ...], base: str | None) -> None:
    """Whether a method can merge these models.

    Raises:
        ValueError: it needs a base and has none, or the reverse; or the models are too few.
    """
    name = method.name
    if method.needs_base and base is None:
        raise ValueError(
            f"{name} merges what the models have learned since a common base; "
            f"give 'base', the model that they were trained from"
        )
    if not method.needs_base and base is not None:
        raise ValueError(f"{name} does not use a base; leave 'base' out")
    if len(set(models)) < len(models) or base in models:
        raise ValueError("a merge names the same model twice; name each model once")
    if len(models) == 1 and not method.needs_base:
        raise ValueError(f"{name} of a single model is that model; name at least two models")
    problem = method.problem(len(models))
    if problem:
        raise ValueError(problem)


Merging = Annotated[Average | TaskArithmetic | Ties | Lines, Field(discriminator="name")]
