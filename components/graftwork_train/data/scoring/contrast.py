"""Classifiers that tell one kind of text from another, learned from balanced samples."""

from __future__ import annotations

from itertools import zip_longest

import numpy as np

from graftwork.errors import RunError
from graftwork_train.data.sample import sample_by_domain, sample_texts
from graftwork_train.data.scoring.linear import Linear, Recipe, train
from graftwork_train.data.stream import Stream

# Text that a classifier learns from, over all domains, in characters.
SAMPLE = 20_000_000


def of_domain(documents: Stream, good: str, seed: int) -> Linear:
    """Tell other domains (True, bad) from the good one.

    Raises:
        RunError: the domain has no documents, or the others have none.
    """
    by_domain = sample_by_domain(documents, SAMPLE)
    kept = by_domain.pop(good, [])
    # Round after round one text of each other domain, so that none of them dominates.
    rounds = zip_longest(*by_domain.values())
    others = [text for texts in rounds for text in texts if text is not None]
    if not kept or not others:
        present = ", ".join([*([good] if kept else []), *by_domain])
        raise RunError(
            f"quality needs documents of the domain {good!r} and of others; "
            f"there are only {present}",
            "Set 'good_domain' to one of several domains, name examples in 'good', or leave "
            "'quality' out.",
        )
    return _learned(kept, others, seed)


def of_examples(negatives: Stream, positives: Stream, seed: int) -> Linear:
    """Tell the positives' documents (True) from the negatives'."""
    return _learned(sample_texts(negatives, SAMPLE), sample_texts(positives, SAMPLE), seed)


def _learned(negatives: list[str], positives: list[str], seed: int) -> Linear:
    # As many of either, so that a score above one half says True whatever their sizes.
    count = min(len(negatives), len(positives))
    labels = np.arange(2 * count) >= count
    return train(negatives[:count] + positives[:count], labels, Recipe(seed=seed))
