"""Decontamination: drop documents that share long runs of words with evaluation sets.

Brown et al., Language Models are Few-Shot Learners, arXiv:2005.14165, appendix C.

    words      runs of letters and digits, case folded; punctuation and white space do not count
    drop d  <=>  at least `matches` runs of N words of d are runs of an evaluation example; N = 13
    an example of fewer than N words, but at least `shortest`, is looked for as a whole

Memory: 8 bytes for each different run of the evaluation sets, on every worker.

Differs from the paper: it cuts 200 characters on either side of a match out of a document, and
drops documents that are cut into many pieces; here they are dropped whole. It leaves out runs that
occur in more than ten documents; `matches` is our means against chance. Its N depends on the length
of an evaluation's examples, from 8 to 13; ours is one, with shorter examples looked for whole.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from graftwork.errors import RunError
from graftwork.spec.filters import Decontaminate
from graftwork_train.data.documents import Batch
from graftwork_train.data.scoring.hashing import Hashes, ngram_hashes, word_hashes
from graftwork_train.data.stream import Arrays, Stream
from graftwork_train.selection.base import KEPT, Context, Verdicts, joined, select

_BETWEEN_WORDS = re.compile(r"[\W_]+")
# Runs of the evaluation sets by source and by their number of words, sorted.
_Index = Mapping[str, Mapping[int, Hashes]]


@select.register
def decontaminate(method: Decontaminate, documents: Stream, context: Context) -> Verdicts:
    """Drop what is contaminated; the score is 1 less the share of a document's runs that match.

    Raises:
        RunError: no example of the evaluation sets is long enough to be looked for.
    """
    index, examples, short = _index(method, context.opened("against"))
    if not any(sizes for sizes in index.values()):
        raise RunError(
            f"no example of {', '.join(method.against)} has {method.shortest} words",
            "Lower 'shortest', or check the field that the evaluation's corpus reads.",
        )
    parts = list(documents.map(_Judge(index), "judging"))
    matches = joined([arrays["matches"] for arrays in parts], np.int64)
    shares = joined([arrays["shares"] for arrays in parts], np.float32)
    dropped = matches.max(axis=1) >= method.matches
    rows = [
        [name, examples[name], short[name], sum(map(len, index[name].values())), int(hit)]
        for name, hit in zip(index, (matches >= method.matches).sum(axis=0), strict=True)
    ]
    columns = ["evaluation set", "examples", "too short", "different runs", "documents that match"]
    table: dict[str, Any] = {"title": "Contamination", "columns": columns, "rows": rows}
    return Verdicts(
        scores=np.float32(1) - shares,
        codes=dropped.astype(np.int16),
        reasons=(KEPT, "contaminated"),
        metrics={"examples": float(examples.total()), "examples_too_short": float(short.total())},
        tables=[table],
    )


def _index(method: Decontaminate, against: Stream) -> tuple[_Index, Counter[str], Counter[str]]:
    """Runs to look for, the number of examples, and of those too short, by source."""
    runs: defaultdict[str, defaultdict[int, list[Hashes]]] = defaultdict(lambda: defaultdict(list))
    examples: Counter[str] = Counter()
    short: Counter[str] = Counter()
    for batch in against.batches("reading evaluation sets"):
        sizes = runs[batch.corpus]
        examples[batch.corpus] += len(batch.documents)
        words, offsets = _words(batch)
        sizes[method.ngram].append(np.unique(ngram_hashes(words, offsets, method.ngram)[0]))
        counts = np.diff(offsets)
        short[batch.corpus] += int((counts < min(method.shortest, method.ngram)).sum())
        for size in range(method.shortest, method.ngram):
            hashes, starts = ngram_hashes(words, offsets, size)
            whole = starts[:-1][counts == size]
            sizes[size].append(hashes[whole])
    index = {
        source: {
            size: found
            for size, parts in sizes.items()
            if len(found := np.unique(np.concatenate(parts)))
        }
        for source, sizes in runs.items()
    }
    return index, examples, short


@dataclass(frozen=True, slots=True)
class _Judge:
    """Matches of each document with each source, and the share of its runs that match any."""

    index: _Index

    def __call__(self, batch: Batch) -> Arrays:
        words, offsets = _words(batch)
        count = len(batch.documents)
        matches = np.zeros((count, len(self.index)), np.int64)
        shares = np.zeros(count, np.float32)
        sizes_of_all = {size for sizes in self.index.values() for size in sizes}
        runs = {size: ngram_hashes(words, offsets, size) for size in sorted(sizes_of_all)}
        for column, sizes in enumerate(self.index.values()):
            for size, known in sizes.items():
                hashes, starts = runs[size]
                hits = _per_document(_known(hashes, known), starts)
                matches[:, column] += hits
                shares = np.maximum(shares, hits / np.maximum(np.diff(starts), 1))
        return {"matches": matches, "shares": shares.astype(np.float32)}


def _words(batch: Batch) -> tuple[Hashes, npt.NDArray[np.int64]]:
    return word_hashes([_BETWEEN_WORDS.sub(" ", text) for text in batch.texts])


def _known(hashes: Hashes, known: Hashes) -> npt.NDArray[np.bool_]:
    """Which hashes are among the sorted ones."""
    places = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    found: npt.NDArray[np.bool_] = known[places] == hashes
    return found


def _per_document(
    hits: npt.NDArray[np.bool_], starts: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Hits of each document: int64 (documents,)."""
    sums = np.concatenate([[0], np.cumsum(hits, dtype=np.int64)])
    return np.diff(sums[starts])
