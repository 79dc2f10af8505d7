"""The verb of upcycling: `upcycle(method, model, seed)`, dispatched on the method's word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import singledispatch

from graftwork.spec.upcycling import Upcycling
from graftwork_train.state import State


@dataclass(frozen=True, slots=True)
class Upcycled:
    """A mixture of experts, or what was made of one, and what was done to get it.

    Attributes:
        state: The model; nothing of it is calculated or copied before it is written.
        origin: What each part of a block was made from, for the report.
        report: Scalars for the record.
        notes: Sentences for the report and the log.
    """

    state: State
    origin: tuple[tuple[str, str], ...] = ()
    report: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@singledispatch
def upcycle(method: Upcycling, dense: State, seed: int) -> Upcycled:
    """Make a mixture of experts out of `dense`, or a dense model out of one.

    Raises:
        graftwork.errors.RunError: the method cannot upcycle this model.
    """
    raise TypeError(
        f"nothing upcycles by {type(method).__name__}; is it imported in upcycling/__init__?"
    )
