"""What a selection method says of every document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What becomes of each document.

    Attributes:
        scores: float32 (documents,), higher is better unless the method says otherwise.
        codes: int16 (documents,), positions in `reasons`; 0 is kept.
        reasons: Names of the codes; the first is `kept`.
        metrics: Scalars for the record.
        tables: Tables for the report, as in `summary.json`.
        notes: Sentences for the report and the log.
    """

    scores: npt.NDArray[np.float32]
    codes: npt.NDArray[np.int16]
    reasons: tuple[str, ...]
    metrics: Mapping[str, float] = field(default_factory=dict)
    tables: Sequence[Mapping[str, Any]] = ()
    notes: tuple[str, ...] = ()
