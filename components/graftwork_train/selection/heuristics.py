"""Heuristic filters: rules on words, lines and symbols, for text of any kind, code included.

Rae et al., Scaling Language Models: Methods, Analysis & Insights from Training Gopher,
arXiv:2112.11446, appendix A1.1, has rules of this kind for web pages; `gopher` has them as such.

    a document is dropped by the first rule that it breaks, and that rule is the reason:
    words        min_words <= count <= max_words, and their mean length within its bounds
    symbols      characters that are no letter, digit, underscore or blank, among those not blank
    letters      share of words with at least one letter
    lines        share of lines that repeat an earlier one
    bigram       share of the words' characters in copies of the most frequent pair of words

Differs from the paper: words are what stands between blanks, symbols are all and not two of them,
there are no stop words, and the limits are wider.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from graftwork.spec.selection import Heuristics
from graftwork_train.data.documents import Batch
from graftwork_train.data.stream import Arrays, Stream
from graftwork_train.selection.base import KEPT, Context, Verdicts, judged, select

REASONS = (
    KEPT, "too_few_words", "too_many_words", "short_words", "long_words", "symbols",
    "few_letters", "duplicate_lines", "repeated_bigram",
)  # fmt: skip
_CODES = {reason: code for code, reason in enumerate(REASONS)}
_SYMBOLS = string.punctuation.replace("_", "").encode()
_OTHER_SYMBOL = re.compile(r"[^\w\s]")
_LETTER = re.compile(r"[^\W\d_]")


@select.register
def heuristics(method: Heuristics, documents: Stream, context: Context) -> Verdicts:
    """Apply the rules; the score is 1 for what is kept and 0 for the rest."""
    return judged(documents, _Judge(method), REASONS)


@dataclass(frozen=True, slots=True)
class _Judge:
    """Codes of a batch: int16 (documents,)."""

    method: Heuristics

    def __call__(self, batch: Batch) -> Arrays:
        codes = [_CODES[_broken_rule(self.method, text)] for text in batch.texts]
        return {"codes": np.array(codes, np.int16)}


def _broken_rule(method: Heuristics, text: str) -> str:
    """The first rule that a text breaks, or `kept`; cheap rules come first."""
    # One word more than allowed is enough to know of a text without end.
    words = text.split(maxsplit=method.max_words)
    count = len(words)
    if count < method.min_words:
        return "too_few_words"
    if count > method.max_words:
        return "too_many_words"
    if not words:
        return KEPT
    characters = sum(map(len, words))
    # Quotients, so that what is at a limit of 30% is not above it.
    if characters / count < method.min_mean_word:
        return "short_words"
    if characters / count > method.max_mean_word:
        return "long_words"
    if _symbols(text) / characters > method.max_symbol_ratio:
        return "symbols"
    if _share_with_letters(words, method.min_alpha_words) < method.min_alpha_words:
        return "few_letters"
    if _duplicate_lines(text) > method.max_duplicate_lines:
        return "duplicate_lines"
    if _top_bigram(words) / characters > method.max_top_bigram:
        return "repeated_bigram"
    return KEPT


def _symbols(text: str) -> int:
    if text.isascii():
        data = text.encode()
        return len(data) - len(data.translate(None, _SYMBOLS))
    return len(_OTHER_SYMBOL.findall(text))


def _share_with_letters(words: list[str], enough: float) -> float:
    # Most words are letters only, and most texts have enough of those to need no second look.
    plain = sum(map(str.isalpha, words)) / len(words)
    return plain if plain >= enough else sum(1 for w in words if _LETTER.search(w)) / len(words)


def _duplicate_lines(text: str) -> float:
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    return (len(lines) - len(set(lines))) / len(lines) if lines else 0.0


def _top_bigram(words: list[str]) -> int:
    """Characters in the copies of the most frequent pair of words, if it occurs twice."""
    pairs = Counter(pairwise(words))
    if len(pairs) > len(words) - 2:
        return 0
    # Of equally frequent pairs the longest counts, so that the order of words does not.
    most = max(pairs.values())
    return max(most * (len(a) + len(b)) for (a, b), times in pairs.items() if times == most)
