"""Heuristic filters: rules on words, lines and symbols, and a quality threshold.

Longpre et al., A Pretrainer's Guide to Training Data, arXiv:2305.13169, section 3.2; the rules are
of the kind of Gopher's (Rae et al. 2021, arXiv:2112.11446, appendix A1.1) and C4's.

    a document is dropped by the first rule that it breaks, and that rule is the reason:
    words        min_words <= count <= max_words, and their mean length within its bounds
    symbols      characters that are no letter, digit, underscore or blank, among those not blank
    letters      share of words with at least one letter
    lines        share of lines that repeat an earlier one
    bigram       share of the words' characters in copies of the most frequent pair of words
    quality      score of a classifier, 0 good to 1 bad:  drop score > T;  inverse: drop score <= T

So kept(T1) is part of kept(T2) for T1 < T2, and a filter and its inverse share no document.

Differs from the paper: its quality classifier was trained on Wikipedia, books and selected pages
against crawled text; ours on the domain named `good_domain` against the stage's other domains.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise, zip_longest

import numpy as np

from graftwork.errors import RunError
from graftwork.spec.selection import Heuristics
from graftwork_train.data.documents import Batch
from graftwork_train.data.sample import sample_by_domain
from graftwork_train.data.scoring.linear import Linear, Recipe, train
from graftwork_train.data.stream import Arrays, Stream
from graftwork_train.selection.base import KEPT, Context, Verdicts, joined, select

REASONS = (
    KEPT, "too_few_words", "too_many_words", "short_words", "long_words", "symbols",
    "few_letters", "duplicate_lines", "repeated_bigram", "low_quality", "high_quality",
)  # fmt: skip
_CODES = {reason: code for code, reason in enumerate(REASONS)}
_SYMBOLS = string.punctuation.replace("_", "").encode()
_OTHER_SYMBOL = re.compile(r"[^\w\s]")
_LETTER = re.compile(r"[^\W\d_]")
# Text that the quality classifier learns from, over all domains, in characters.
QUALITY_SAMPLE = 20_000_000


@select.register
def heuristics(method: Heuristics, documents: Stream, context: Context) -> Verdicts:
    """Apply the rules; the score is 1 for kept and 0, or the classifier's where there is one."""
    classifier = None if method.quality is None else _classifier(method, documents, context)
    judged = list(documents.map(_Judge(method, classifier), "judging"))
    codes = joined([arrays["codes"] for arrays in judged], np.int16)
    metrics = {} if classifier is None else {"classifier_accuracy": classifier.accuracy}
    scores = joined([arrays["scores"] for arrays in judged], np.float32)
    return Verdicts(scores, codes, REASONS, metrics)


@dataclass(frozen=True, slots=True)
class _Judge:
    """Codes and scores of a batch."""

    method: Heuristics
    classifier: Linear | None

    def __call__(self, batch: Batch) -> Arrays:
        codes = np.array([_CODES[_broken_rule(self.method, text)] for text in batch.texts])
        if self.classifier is None or self.method.quality is None:
            return {"codes": codes, "scores": (codes == 0).astype(np.float32)}
        scores = self.classifier.probabilities(batch.texts)
        bad = scores > self.method.quality
        wrong, reason = (~bad, "high_quality") if self.method.inverse else (bad, "low_quality")
        return {"codes": np.where((codes == 0) & wrong, _CODES[reason], codes), "scores": scores}


def _broken_rule(method: Heuristics, text: str) -> str:
    """The first rule that a text breaks, or `kept`; cheap rules come first."""
    words = text.split()
    count = len(words)
    if count < method.min_words:
        return "too_few_words"
    if count > method.max_words:
        return "too_many_words"
    if not words:
        return KEPT
    characters = sum(map(len, words))
    if characters < method.min_mean_word * count:
        return "short_words"
    if characters > method.max_mean_word * count:
        return "long_words"
    if _symbols(text) > method.max_symbol_ratio * characters:
        return "symbols"
    if _words_with_letters(words, method.min_alpha_words * count) < method.min_alpha_words * count:
        return "few_letters"
    if _duplicate_lines(text) > method.max_duplicate_lines:
        return "duplicate_lines"
    if _top_bigram(words) > method.max_top_bigram * characters:
        return "repeated_bigram"
    return KEPT


def _symbols(text: str) -> int:
    if text.isascii():
        data = text.encode()
        return len(data) - len(data.translate(None, _SYMBOLS))
    return len(_OTHER_SYMBOL.findall(text))


def _words_with_letters(words: list[str], enough: float) -> int:
    # Most words are letters only, and most texts have enough of those to need no second look.
    plain = sum(map(str.isalpha, words))
    return plain if plain >= enough else sum(1 for word in words if _LETTER.search(word))


def _duplicate_lines(text: str) -> float:
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    return 1 - len(set(lines)) / len(lines) if lines else 0.0


def _top_bigram(words: list[str]) -> int:
    """Characters in the copies of the most frequent pair of words, if it occurs twice."""
    pairs = Counter(pairwise(words))
    if len(pairs) > len(words) - 2:
        return 0
    # Of equally frequent pairs the longest counts, so that the order of words does not.
    most = max(pairs.values())
    return max(most * (len(a) + len(b)) for (a, b), times in pairs.items() if times == most)


def _classifier(method: Heuristics, documents: Stream, context: Context) -> Linear:
    """Learn to tell other domains (True, bad) from the good one."""
    by_domain = sample_by_domain(documents, QUALITY_SAMPLE)
    good = by_domain.pop(method.good_domain, [])
    # Round after round one text of each other domain, so that none of them dominates.
    rounds = zip_longest(*by_domain.values())
    bad = [text for texts in rounds for text in texts if text is not None]
    if not good or not bad:
        present = ", ".join([*([method.good_domain] if good else []), *by_domain])
        raise RunError(
            f"quality needs documents of the domain {method.good_domain!r} and of others; "
            f"there are only {present}",
            "Set 'good_domain' to one of several domains, or leave 'quality' out.",
        )
    # As many of either, so that a score above one half says "bad" whatever the domains' sizes.
    count = min(len(good), len(bad))
    labels = np.arange(2 * count) >= count
    return train(good[:count] + bad[:count], labels, Recipe(seed=context.seed))
