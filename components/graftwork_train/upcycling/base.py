"""The verb of upcycling: `upcycle(method, dense, seed)`, dispatched on the method's word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import singledispatch

from graftwork.spec.upcycling import Upcycling
from graftwork_train.state import State


@dataclass(frozen=True, slots=True)
class Upcycled:
    """A mixture of experts, and what was done to get it.

    Attributes:
        state: The model; nothing of it is calculated or copied before it is written.
        report: Scalars for the record.
        notes: Sentences for the report and the log.
    """

    state: State
    report: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@singledispatch
def upcycle(method: Upcycling, dense: State, seed: int) -> Upcycled:
    """Make a mixture of experts out of `dense`.

    Raises:
        graftwork.errors.RunError: the method cannot upcycle this model.
    """
    raise TypeError(
        f"nothing upcycles by {type(method).__name__}; is it imported in upcycling/__init__?"
    )
