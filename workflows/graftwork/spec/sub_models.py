"""Training a grown model's parts before the whole: the first of bert2BERT's two stages."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from graftwork.spec.base import Strict
from graftwork.spec.cost import Cost
from graftwork.spec.model import Architecture


class SubModels(Strict):
    """In each step train the top blocks of one sub-model, which all share the head.

    A sub-model is the model's first blocks, a multiple of `blocks`, drawn anew in each step.
    bert2BERT, arXiv:2110.07143, section 3.4.
    """

    blocks: int = Field(default=3, ge=1, le=10_000)
    """How many top blocks of the sub-model are trained; must divide the model's blocks. The paper
    finds 3 of 12 best, and 5 of 40 epochs best for this stage."""

    def depths(self, layers: int) -> tuple[int, ...]:
        """The sub-models: how many of the model's first blocks each has."""
        return tuple(range(self.blocks, layers + 1, self.blocks))

    def cost(self, architecture: Architecture, vocab: int, context: int) -> Cost:
        """What a token costs in the mean: all blocks of a sub-model forward, some backward.

        A third of a block's training FLOPs are those of its forward pass.
        """
        one, two = (
            architecture.model_copy(update={"layers": layers}).flops_per_token(vocab, context)
            for layers in (1, 2)
        )
        block, head = two - one, 2 * one - two
        depths = self.depths(architecture.layers)
        forward = sum(depths) / len(depths) * block / 3
        return Cost(head + forward + self.blocks * block * 2 / 3)

    def problems(self, layers: int, workers: int) -> Iterator[str]:
        """Why a model of so many blocks cannot be trained so, on so many workers."""
        if layers % self.blocks:
            fitting = [str(n) for n in range(1, layers + 1) if layers % n == 0]
            yield (
                f"sub-models of {self.blocks} blocks more each do not make up a model of "
                f"{layers}; give one of {', '.join(fitting)}"
            )
        if workers > 1:
            yield (
                f"sub-models are trained by one worker, and the pool has {workers}; name a pool of "
                f"one worker"
            )
