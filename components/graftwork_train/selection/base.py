"""The verb of selection: `select(method, documents, context)`, by the class of the method's word.

A method reads the stream as often as it needs and gives one verdict for each document, in the
stream's order. What it keeps of a document while it thinks are numbers, never the text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from graftwork.spec.selection import Selection
from graftwork_train.data.stream import Arrays, Function, Stream
from graftwork_train.data.verdicts import KEPT, Verdicts

__all__ = ["KEPT", "Context", "Verdicts", "best_share", "joined", "judged", "select"]


@dataclass(frozen=True, slots=True)
class Context:
    """What a method may need besides the documents.

    Attributes:
        seed: Seed of what is left to chance.
        cores: CPU cores to use.
        gpu: Whether a GPU may be used, where there is one.
        model: Folder of the n-th model that the method names.
        folder: Folder of the artifact that a field of the method names, such as `model`.
        opened: The documents of the corpora and stages that a field of the method names.
        progress: Called with done, total and unit.
        once: Gives arrays by their name, or makes them; what took long outlives a killed attempt.
    """

    seed: int
    cores: int
    gpu: bool
    model: Callable[[int], Path]
    progress: Callable[[float, float, str], None]
    folder: Callable[[str], Path]
    opened: Callable[[str], Stream]
    once: Callable[[str, Callable[[], Arrays]], Arrays] = field(default=lambda name, make: make())


@singledispatch
def select(method: Selection, documents: Stream, context: Context) -> Verdicts:
    """Judge every document.

    Raises:
        graftwork.errors.RunError: the documents are broken, empty, or not what the method needs.
    """
    raise TypeError(f"nothing selects by {type(method).__name__}; is its module imported?")


def joined(parts: Sequence[npt.NDArray[Any]], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Arrays of batches, one after the other; an empty array where there are none."""
    return np.concatenate([np.zeros((0, *parts[0].shape[1:]), dtype), *parts]).astype(dtype)


def judged(
    documents: Stream,
    judge: Function,
    reasons: tuple[str, ...],
    metrics: Mapping[str, float] | None = None,
) -> Verdicts:
    """Verdicts of a filter that judges each document by itself.

    Args:
        documents: The stream.
        judge: Gives `codes` of a batch and, if it has any, `scores`; they are 1 and 0 otherwise.
        reasons: Names of the codes, the first is `kept`.
        metrics: For the record.
    """
    found = list(documents.map(judge, "judging"))
    codes = joined([arrays["codes"] for arrays in found], np.int16)
    parts = [arrays.get("scores", arrays["codes"] == 0) for arrays in found]
    return Verdicts(joined(parts, np.float32), codes, reasons, metrics or {})


def best_share(scores: npt.NDArray[np.float32], keep: float) -> npt.NDArray[np.int64]:
    """Positions of the round(keep * n) highest scores, at least one; of equal ones the first."""
    return np.argsort(-scores, kind="stable")[: max(1, round(keep * len(scores)))]
