"""A Pretrainer's Guide: filters by domain, age, quality and toxicity, and their inverses.

Longpre et al., A Pretrainer's Guide to Training Data: Measuring the Effects of Data Age, Domain
Coverage, Quality, & Toxicity, arXiv:2305.13169, section 2.

    domain     keep what is in `only`, or not in `without`
    age        keep oldest <= year <= newest
    quality    score from 0 (good) to 1 (bad):  drop score > T;  inverse: drop score <= T
    toxicity   score from 0 to 1:               drop score > T;  inverse: drop score <= T

So kept(T1) is part of kept(T2) for T1 < T2, and a filter and its inverse share no document. A
document is dropped by the first filter in this order; the report also tells what share of all
documents each of the paper's thresholds would keep.

Differs from the paper: its quality classifier was trained on Wikipedia, books and selected pages
against crawled text; ours on the domain `good_domain` against the stage's other domains, or on
examples in `good` against the stage's documents. Its toxicity scores are those of the Perspective
API; here they come from examples in `toxic`, or, as any scores may, from a field of the metadata.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from graftwork.spec.filters import PretrainersGuide
from graftwork_train.data.documents import Batch, Document
from graftwork_train.data.scoring.contrast import of_domain, of_examples
from graftwork_train.data.scoring.linear import Linear
from graftwork_train.data.stream import Arrays, Stream
from graftwork_train.selection.base import KEPT, Context, Verdicts, joined, select

REASONS = (
    KEPT, "other_domain", "no_date", "too_old", "too_new", "no_quality", "low_quality",
    "high_quality", "no_toxicity", "toxic", "not_toxic",
)  # fmt: skip
_CODES = {reason: code for code, reason in enumerate(REASONS)}
_YEAR = re.compile(r"(?<!\d)[12]\d{3}(?!\d)")
# The paper's thresholds, for the report.
_THRESHOLDS = {"quality": (0.975, 0.95, 0.9, 0.7), "toxicity": (0.95, 0.9, 0.7, 0.5, 0.3, 0.06)}

_Scores = npt.NDArray[np.float32]
_Codes = npt.NDArray[np.int16]


@select.register
def pretrainers_guide(method: PretrainersGuide, documents: Stream, context: Context) -> Verdicts:
    """Apply the filters; the score is that of quality, or of toxicity, or 1 kept and 0 dropped.

    Raises:
        graftwork.errors.RunError: there is nothing to learn good or toxic text from.
    """
    learned = {
        name: Linear.unpacked(context.once(name, teach))
        for name, teach in _teachers(method, documents, context).items()
    }
    parts = list(documents.map(_Judge(method, learned), "judging"))
    found = {name: joined([arrays[name] for arrays in parts], np.float32) for name in parts[0]}
    codes = found.pop("codes").astype(np.int16)
    scores = next(iter(found.values()), (codes == 0).astype(np.float32))
    return Verdicts(
        scores=np.nan_to_num(scores, nan=1.0),
        codes=codes,
        reasons=REASONS,
        metrics={f"{name}_classifier_accuracy": each.accuracy for name, each in learned.items()},
        tables=[_table(name, values) for name, values in found.items()],
    )


def _teachers(
    method: PretrainersGuide, documents: Stream, context: Context
) -> dict[str, Callable[[], Arrays]]:
    """By filter whose score no field holds: learns its classifier, and packs it."""
    found: dict[str, Callable[[], Arrays]] = {}
    if method.quality is not None and method.quality_field is None:
        found["quality"] = lambda: (
            # Trained with the stage's documents as the positive class: 1 is bad.
            of_examples(context.opened("good"), documents, context.seed)
            if method.good
            else of_domain(documents, method.good_domain, context.seed)
        ).packed()
    if method.toxicity is not None and method.toxicity_field is None:
        found["toxicity"] = lambda: of_examples(
            documents, context.opened("toxic"), context.seed
        ).packed()
    return found


@dataclass(frozen=True, slots=True)
class _Judge:
    """Codes of a batch and the scores of the filters that are set, (documents,) each."""

    method: PretrainersGuide
    learned: Mapping[str, Linear]

    def __call__(self, batch: Batch) -> Arrays:
        found: Arrays = {}
        for name in ("quality", "toxicity"):
            if getattr(self.method, name) is not None:
                found[name] = self._scores(name, batch)
        codes = np.array([_CODES[self._dated(one)] for one in batch.documents], np.int16)
        for name, scores in found.items():
            codes = np.where(codes == 0, self._codes(name, scores), codes)
        return {**found, "codes": codes}

    def _scores(self, name: str, batch: Batch) -> _Scores:
        if name in self.learned:
            return self.learned[name].probabilities(batch.texts)
        field = getattr(self.method, f"{name}_field")
        return np.array([_number(one.metadata.get(field)) for one in batch.documents], np.float32)

    def _codes(self, name: str, scores: _Scores) -> _Codes:
        inverse = self.method.inverse == name
        # Compared as float32, as a threshold that a score is equal to keeps it.
        above = scores > np.float32(getattr(self.method, name))
        bad, good = {
            "quality": ("low_quality", "high_quality"),
            "toxicity": ("toxic", "not_toxic"),
        }[name]
        reason, wrong = (good, ~above) if inverse else (bad, above)
        codes = np.where(wrong, _CODES[reason], 0)
        missing = _CODES[f"no_{name}"]
        return np.where(np.isnan(scores), missing, codes).astype(np.int16)

    def _dated(self, document: Document) -> str:
        """What the domain and the age say of a document."""
        method = self.method
        if document.domain in method.without:
            return "other_domain"
        if method.only and document.domain not in method.only:
            return "other_domain"
        if method.oldest is None and method.newest is None:
            return KEPT
        year = _YEAR.search(document.metadata.get(method.date_field, ""))
        if year is None:
            return "no_date" if method.undated == "drop" else KEPT
        if method.oldest is not None and int(year[0]) < method.oldest:
            return "too_old"
        if method.newest is not None and int(year[0]) > method.newest:
            return "too_new"
        return KEPT


def _number(text: str | None) -> float:
    """A score from 0 to 1, or NaN."""
    try:
        value = float(text or "nan")
    except ValueError:
        return np.nan
    return value if 0 <= value <= 1 else np.nan


def _table(name: str, scores: _Scores) -> dict[str, Any]:
    rows: Sequence[Sequence[str]] = [
        [f"{threshold:g}", f"{np.mean(scores <= np.float32(threshold)):.1%}"]
        for threshold in _THRESHOLDS[name]
    ]
    columns = [f"{name} threshold", "share of all documents that it keeps"]
    return {"title": f"Kept by threshold of {name}", "columns": columns, "rows": rows}
