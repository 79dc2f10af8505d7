"""The verb of growth: `grow(method, small, seed)`, dispatched on the class of the method's word."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graftwork.spec.growth import Growth
from graftwork_train.data.shards import TokenShards
from graftwork_train.nn.hf import ModelCard
from graftwork_train.state import State
from graftwork_train.tensorfile import Tensor


@dataclass(frozen=True, slots=True)
class Grown:
    """A larger model, and what was done to get it.

    Attributes:
        state: The model; nothing of it is calculated or copied before it is written.
        origin: By block of the larger model, what it was made from, for the report.
        report: Scalars for the record.
        notes: Sentences for the report and the log.
        tokens: Tokens that the method learned from.
        flops: FLOPs of that.
        files: Further tensors that belong to the model, by file name.
        tables: Further tables for the report.
        moments: Grows an optimizer's moments with the model: takes them as a state with the small
            model's tensors, and the power of the gradient that they are means of. None where there
            is no rule.
    """

    state: State
    origin: tuple[str, ...]
    report: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    tokens: int = 0
    flops: float = 0.0
    files: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    tables: tuple[Mapping[str, Any], ...] = ()
    moments: Callable[[State, int], State] | None = None


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a method that learns is given besides the model.

    Attributes:
        text: Tokens to learn from.
        card: What the small model is.
        folder: Where it lies.
        cursor: Sequences of the text that the model has trained on.
        progress: Takes what is done, what there is to do, and its unit.
    """

    text: TokenShards
    card: ModelCard
    folder: Path
    cursor: int = 0
    progress: Callable[[float, float, str], None] = lambda done, total, unit: None


@singledispatch
def grow(method: Growth, small: State, seed: int, lesson: Lesson | None = None) -> Grown:
    """Make a larger model out of `small`.

    Args:
        method: The word.
        small: The model.
        seed: Of what is drawn.
        lesson: For methods that name `data`.

    Raises:
        graftwork.errors.RunError: the method cannot grow this model.
    """
    raise TypeError(f"nothing grows by {type(method).__name__}; is it imported in growth/__init__?")


def blocks_of(order: list[int]) -> tuple[str, ...]:
    """What the report says of blocks that are copies."""
    return tuple(f"block {source}" for source in order)


Values = NDArray[np.floating[Any]]
