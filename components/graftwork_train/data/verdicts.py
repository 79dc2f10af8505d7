"""What a selection method says of every document."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from graftwork_train.data.ledger import Arrays

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

    def packed(self) -> Arrays:
        """As arrays, to be kept."""
        plain = [self.reasons, dict(self.metrics), [dict(each) for each in self.tables], self.notes]
        text = np.frombuffer(json.dumps(plain).encode(), np.uint8)
        return {"scores": self.scores, "codes": self.codes, "plain": text}

    @classmethod
    def unpacked(cls, arrays: Arrays) -> Self:
        """What `packed` has packed."""
        reasons, metrics, tables, notes = json.loads(arrays["plain"].tobytes())
        return cls(arrays["scores"], arrays["codes"], tuple(reasons), metrics, tables, tuple(notes))
