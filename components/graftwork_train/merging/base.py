"""The verb of merging: `merge(method, vectors)`, dispatched on the class of the method's word."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

from graftwork.spec.merging import Merging
from graftwork_train.merging._vectors import Vectors
from graftwork_train.state import State


@dataclass(frozen=True, slots=True)
class Merged:
    """A model made of several, and what was done to get it.

    Attributes:
        state: The model; nothing of it is calculated before it is written.
        report: Scalars for the record.
        tables: For the report.
        notes: Sentences for the report and the log.
    """

    state: State
    report: Mapping[str, float] = field(default_factory=dict)
    tables: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


@singledispatch
def merge(method: Merging, vectors: Vectors) -> Merged:
    """Make one model of several.

    Args:
        method: The word.
        vectors: The base, and what each model has learned since.
    """
    raise TypeError(
        f"nothing merges by {type(method).__name__}; is it imported in merging/__init__?"
    )
