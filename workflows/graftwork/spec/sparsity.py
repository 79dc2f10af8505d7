"""Words for sparse pre-training."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import LATER, Contract, Method, Paper
from graftwork.spec.cost import DENSE, Cost, Phases
from graftwork.spec.model import Architecture
from graftwork.units import Share


class Sparsifier(Method):
    """What all methods of sparsity share: which weights they hold, when, and what that saves."""

    contract: ClassVar[Contract | None] = "none"

    def target(self, source: Architecture) -> Architecture:
        """The architecture after sparsification: the same.

        Raises:
            ValueError: the model is a mixture of experts.
        """
        if source.experts:
            name: str = self.name  # type: ignore[attr-defined] # every word has one
            raise ValueError(
                f"{name} takes dense models, and this is a mixture of experts; take a dense one"
            )
        return source

    @property
    def density(self) -> float:
        """Share of the maskable weights that is kept in the end."""
        kept: float = 1.0 - getattr(self, "sparsity", 0.0)
        return kept

    @abstractmethod
    def maskable(self, architecture: Architecture, vocab: int) -> int:
        """Weights that masks may hold at zero."""

    @abstractmethod
    def phases(self, steps: int) -> Phases:
        """What share of them is kept during a training of `steps` optimizer steps.

        Raises:
            ValueError: the training is too short for the method; what is wrong, `; `, a remedy.
        """

    def cost(
        self, architecture: Architecture, vocab: int, context: int, steps: int, before: float = 1.0
    ) -> Cost:
        """What a training of `steps` optimizer steps costs.

        Args:
            architecture: The model's.
            vocab: Entries of its vocabulary.
            context: Tokens of a sequence.
            steps: Of the whole training.
            before: Share of the maskable weights that the model it begins with has left.

        Raises:
            ValueError: as `phases`.
        """
        return Cost(
            per_token=architecture.flops_per_token(vocab, context),
            maskable=self.maskable(architecture, vocab),
            phases=tuple((step, min(kept, before)) for step, kept in self.phases(steps)),
        )


class Spdf(Sparsifier):
    """A static random mask on the blocks' linear weights, held while the stage trains."""

    paper: ClassVar[Paper] = Paper(
        "SPDF: Sparse Pre-training and Dense Fine-tuning for Large Language Models",
        "2303.10464",
        "2",
        number="29",
    )
    name: Literal["spdf"]
    sparsity: Share = Field(default=0.75)
    """Share of each linear layer's weights that is masked. The paper tried 50% and 75%."""
    pattern: Annotated[Literal["any", "2:4"], LATER] = "any"
    """Which weights are masked: any, as in the paper; or two of every four successive inputs, whose
    zeros newer GPUs skip in forward products of 16 bits. `2:4` needs a sparsity of 50%."""

    @model_validator(mode="after")
    def _between(self) -> Self:
        _check_sparsity(self.sparsity, "50% and 75%")
        if self.pattern == "2:4" and self.sparsity != 0.5:
            raise ValueError(
                f"two of every four are half of all, and sparsity is {self.sparsity:.4g}; "
                f"write 'sparsity: 50%'"
            )
        return self

    def target(self, source: Architecture) -> Architecture:
        """As for all methods; the pattern needs whole groups of four inputs."""
        heads = source.heads * source.head_size
        inputs = {"width": source.width, "ffn": source.hidden, "all heads together": heads}
        odd = [f"{name} {size}" for name, size in inputs.items() if size % 4]
        if self.pattern == "2:4" and odd:
            raise ValueError(
                f"the pattern 2:4 groups inputs by four, and {odd[0]} is no multiple of four; "
                f"use another size, or leave 'pattern' out"
            )
        return super().target(source)

    def maskable(self, architecture: Architecture, vocab: int) -> int:
        """The linear weights of the blocks."""
        return architecture.linear_parameters()

    def phases(self, steps: int) -> Phases:
        """The same all the time."""
        return ((0, 1.0 - self.sparsity),)


class GradualPruning(Sparsifier):
    """Prune the smallest weights step by step, over the middle of the training's compute."""

    paper: ClassVar[Paper] = Paper(
        "The Journey Matters: Average Parameter Count over Pre-training Unifies Sparse and Dense "
        "Scaling Laws",
        "2501.12486",
        "3",
        number="37",
    )
    name: Literal["gradual_pruning"]
    sparsity: Share = Field(default=0.5)
    """Share of the weights that is masked in the end. The paper's configurations: 50% and 60%."""
    start: Share = Field(default=0.25)
    """Where pruning begins, as a share of the training's compute."""
    end: Share = Field(default=0.75)
    """Where pruning ends, as a share of the training's compute."""
    every: int = Field(default=100, ge=1)
    """Optimizer steps between two prunings."""
    score: Literal["magnitude", "random"] = "magnitude"
    """Which weights go first: the smallest, over all layers together, or any."""

    @model_validator(mode="after")
    def _between(self) -> Self:
        _check_sparsity(self.sparsity, "50% and 60%")
        if not 0 <= self.start < self.end <= 1:
            raise ValueError(
                "pruning must begin before it ends, within the training's compute; the paper found "
                "a start of 25% and an end of 75% near the best"
            )
        return self

    def maskable(self, architecture: Architecture, vocab: int) -> int:
        """The linear weights of the blocks, and of the head unless it is the embedding too."""
        head = 0 if architecture.tie_embeddings else vocab * architecture.width
        return architecture.linear_parameters() + head

    def span(self, steps: int) -> tuple[int, int]:
        """The optimizer steps, counted from 0, before which the first and last pruning happen.

        `start` and `end` are shares of the compute, and steps become cheaper as weights go. With C
        the compute in units of dense steps, r the mean density while pruning, and s the sparsity,

            steps = start·C + (end - start)·C / r + (1 - end)·C / (1 - s),    r = s / -ln(1 - s)

        Both ends are rounded to multiples of `every`.
        """
        density = self.sparsity / -math.log1p(-self.sparsity)
        before, between = self.start, (self.end - self.start) / density
        compute = steps / (before + between + (1.0 - self.end) / (1.0 - self.sparsity))
        first = round(compute * before / self.every) * self.every
        last = round(compute * (before + between) / self.every) * self.every
        # What would be pruned after the last step is pruned before it.
        return first, min(last, (steps - 1) // self.every * self.every)

    def phases(self, steps: int) -> Phases:
        """Geometric: after the k-th of n prunings, (1 - sparsity)^(k / n) is kept."""
        first, last = self.span(steps)
        if last <= first:
            raise ValueError(
                f"{steps} steps are too few to prune every {self.every} of them more than once "
                f"between {self.start:.0%} and {self.end:.0%} of the compute; "
                f"train longer, or write a smaller 'every'"
            )
        count = (last - first) // self.every + 1
        events = tuple(
            (first + index * self.every, (1.0 - self.sparsity) ** ((index + 1) / count))
            for index in range(count)
        )
        return events if first == 0 else (*DENSE, *events)


class SlTrain(Sparsifier):
    """Every linear weight of the blocks as a low-rank product plus a few entries of their own."""

    paper: ClassVar[Paper] = Paper(
        "SLTrain: a sparse plus low-rank approach for parameter and memory efficient pretraining",
        "2406.02214",
        "3",
        number="23",
    )
    name: Literal["sltrain"]
    rank: int = Field(default=128, ge=1)
    """Rank of the product. The paper: 128 for 60M parameters, 512 for 1B, 1024 for 7B."""
    delta: Share = Field(default=0.03)
    """Share of a weight's entries that are trained on their own. The paper: 3%; 5% for 7B."""
    alpha: float = Field(default=32.0, gt=0)
    """The product is multiplied by alpha / rank. The paper: 32 for 60M parameters, 8 from 1B on."""

    @model_validator(mode="after")
    def _between(self) -> Self:
        if not 0 < self.delta < 1:
            raise ValueError("delta must lie between 0% and 100%, both excluded; the paper uses 3%")
        return self

    def target(self, source: Architecture) -> Architecture:
        """The architecture: the same, once the products are multiplied out.

        Raises:
            ValueError: the model is a mixture of experts, or the rank is that of a whole weight.
        """
        smallest = min(source.width, source.hidden, source.head_size * source.key_value_heads)
        if self.rank >= smallest:
            raise ValueError(
                f"a rank of {self.rank} is not below the smallest side of the model's linear "
                f"weights, {smallest}; use a smaller rank"
            )
        return super().target(source)

    def maskable(self, architecture: Architecture, vocab: int) -> int:
        """None: nothing is held at zero."""
        return 0

    def phases(self, steps: int) -> Phases:
        """Everything is multiplied with, all the time."""
        return DENSE

    def cost(
        self, architecture: Architecture, vocab: int, context: int, steps: int, before: float = 1.0
    ) -> Cost:
        """That of the dense model, and of the products: 6 FLOPs a weight and rank, once a step.

        Products that are calculated again, backward or for another micro-batch, are not counted,
        as no convention counts what is calculated again to save memory.
        """
        return Cost(
            per_token=architecture.flops_per_token(vocab, context),
            per_step=6.0 * self.rank * architecture.linear_parameters(),
        )


def _check_sparsity(sparsity: float, tried: str) -> None:
    if not 0 < sparsity < 1:
        raise ValueError(
            f"sparsity must lie between 0% and 100%, both excluded; the paper tried {tried}"
        )


Sparsity = Annotated[Spdf | GradualPruning | SlTrain, Field(discriminator="name")]
