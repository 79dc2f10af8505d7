"""What a training sees and is asked: the engine's hook for methods that choose or judge data.

This one leaves everything as the stage's word says. A method overrides what it needs. It is sent
to every worker, and what it answers is a function of itself and the plan alone: a training that
is resumed, on any number of workers, reads the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graftwork_train.data.shards import TokenShards
from graftwork_train.loop.loader import Loader
from graftwork_train.loop.objective import Objective
from graftwork_train.nn import Decoder

if TYPE_CHECKING:
    from graftwork_train.loop.plan import Plan


@dataclass(frozen=True)
class Arrangement:
    """Nothing is changed."""

    def replayed(self, asked: int, sequences: int) -> int:
        """How many of a batch's sequences come from older data.

        Args:
            asked: By the stage's own `replay`.
            sequences: Of a batch.
        """
        return asked

    def check(self, plan: Plan, shards: TokenShards) -> None:
        """Judge the plan before any worker is held.

        Raises:
            RunError: the method cannot do it so.
        """

    def loader(self, plan: Plan, loader: Loader) -> Loader:
        """The data that a training reads, given those that it would read without the method."""
        return loader

    def objective(self, model: Decoder) -> Callable[[Decoder, float, int], Objective]:
        """What makes the training's objective of a model, the z-loss and the number of workers.

        Args:
            model: With the weights that the training begins with, whole; not yet trained, even
                where the training is resumed.
        """
        return Objective
