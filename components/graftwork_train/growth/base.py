"""The verb of growth: `grow(method, small, seed)`, dispatched on the class of the method's word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import singledispatch

from graftwork.spec.growth import Growth
from graftwork_train.state import State


@dataclass(frozen=True, slots=True)
class Grown:
    """A larger model, and what was done to get it.

    Attributes:
        state: The model; nothing of it is calculated or copied before it is written.
        origin: By block of the larger model, what it was made from, for the report.
        report: Scalars for the record.
        notes: Sentences for the report and the log.
    """

    state: State
    origin: tuple[str, ...]
    report: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@singledispatch
def grow(method: Growth, small: State, seed: int) -> Grown:
    """Make a larger model out of `small`.

    Raises:
        graftwork.errors.RunError: the method cannot grow this model.
    """
    raise TypeError(f"nothing grows by {type(method).__name__}; is it imported in growth/__init__?")
