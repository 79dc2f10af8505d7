"""Quality of documents by a classifier that learns which ones are good from a domain of theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from graftwork.errors import RunError
from graftwork_train.data.scoring.linear import Linear, Recipe, train
from graftwork_train.synthesis.base import Documents

# Documents of either class that the classifier learns from at most, and what it reads of each.
SAMPLE = 4000
_CHARACTERS = 8000

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Judge:
    """Scores texts: the higher, the more they read like the good ones."""

    model: Linear

    def scores(self, texts: Sequence[str]) -> Scores:
        """float32 (texts,)."""
        return self.model.logits([text[:_CHARACTERS] for text in texts])


def learn(documents: Documents, good_domain: str, seed: int) -> tuple[Judge, Scores]:
    """A judge that has read a sample of the documents, and its scores of all of them in order.

    Raises:
        RunError: one of the two classes is empty.
    """
    kept: dict[bool, list[tuple[int, str]]] = {True: [], False: []}
    for batch in documents.batches("judging"):
        for document in batch.documents:
            mark = xxhash.xxh3_64_intdigest(document.id.encode(), seed)
            some = kept[document.domain == good_domain]
            some.append((mark, document.text[:_CHARACTERS]))
            if len(some) >= 2 * SAMPLE:
                some.sort()
                del some[SAMPLE:]
    for kind, name in ((True, f"of domain {good_domain!r}"), (False, "of another domain")):
        if not kept[kind]:
            raise RunError(
                f"quality is learned from documents {name}, and there is none",
                "Read corpora of several domains, and name one of them in 'good'.",
            )
    examples = [(text, kind) for kind in (True, False) for _, text in sorted(kept[kind])[:SAMPLE]]
    labels = np.array([kind for _, kind in examples])
    judge = Judge(train([text for text, _ in examples], labels, Recipe(seed=seed % 2**31)))
    parts = [judge.scores(batch.texts) for batch in documents.batches("judging")]
    return judge, np.concatenate(parts)


def above(scores: Scores, keep: float) -> float:
    """The score from which the best share `keep` begins: a quantile, whatever the scale."""
    return float(np.quantile(scores, 1 - keep, method="higher")) if keep < 1 else float("-inf")


def bucket(score: float, borders: Sequence[float]) -> str:
    """The third of the documents in which a score lies."""
    return ("low", "middle", "high")[int(np.searchsorted(borders, score, side="right"))]


def thirds(scores: Scores) -> tuple[float, float]:
    """Borders between the thirds of the scores."""
    low, high = np.quantile(scores, [1 / 3, 2 / 3])
    return float(low), float(high)
