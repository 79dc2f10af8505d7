"""Gopher's filters: rules on words, lines and symbols, and limits on repetition.

Rae et al., Scaling Language Models: Methods, Analysis & Insights from Training Gopher,
arXiv:2112.11446, appendix A1.1 and table A1. A document is dropped by the first rule that it
breaks, and that rule is the reason:

    quality     words (50 to 100,000, of 3 to 10 characters on average), hash signs and ellipses
                per word (0.1), lines that begin with a bullet (90%) or end with an ellipsis (30%),
                words with a letter (80%), different stop words (2)
    repetition  lines and paragraphs that repeat an earlier one (30%; 20% of the characters)
                most frequent run of n words, times its length (n = 2, 3, 4: 20%, 18%, 16%)
                runs of n words that repeat an earlier one (n = 5 .. 10: 15% .. 10%), each
                character counted once: after a repeat the search goes on behind it

Shares of characters are of all the text, white space included.

Differs from the paper: it does not say what its words are. Here they are runs of letters and digits
and runs of other characters that are not blank; with `words: blanks`, what stands between blanks;
with `words: spacy`, what datatrove's filters of the same name take. Symbols alone count as words in
the ratios, but not in the number and the mean length of words, as in datatrove's, which with the
same words keep the same texts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import filterfalse, islice

import numpy as np

from graftwork.spec.filters import Gopher
from graftwork_train.data.documents import Batch
from graftwork_train.data.stream import Arrays, Stream
from graftwork_train.data.words import each_word, words_of
from graftwork_train.selection.base import KEPT, Context, Verdicts, judged, select

STOP_WORDS = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})
REASONS = (
    KEPT, "too_few_words", "too_many_words", "short_words", "long_words", "hashes", "ellipses",
    "bullets", "lines_with_ellipsis", "few_letters", "few_stop_words", "duplicate_paragraphs",
    "duplicate_paragraph_characters", "duplicate_lines", "duplicate_line_characters",
    "top_2_gram", "top_3_gram", "top_4_gram", "duplicate_5_grams", "duplicate_6_grams",
    "duplicate_7_grams", "duplicate_8_grams", "duplicate_9_grams", "duplicate_10_grams",
)  # fmt: skip
_CODES = {reason: code for code, reason in enumerate(REASONS)}
_SPOKEN = re.compile(r"\w")
_LETTER = re.compile(r"[^\W\d_]")
_PARAGRAPHS, _LINES = re.compile(r"\n{2,}"), re.compile(r"\n+")


@select.register
def gopher(method: Gopher, documents: Stream, context: Context) -> Verdicts:
    """Apply the rules; the score is 1 for what is kept and 0 for the rest."""
    return judged(documents, _Judge(method), REASONS)


@dataclass(frozen=True, slots=True)
class _Judge:
    """Codes of a batch, int16 (documents,)."""

    method: Gopher

    def __call__(self, batch: Batch) -> Arrays:
        codes = [_CODES[_broken_rule(self.method, text)] for text in batch.texts]
        return {"codes": np.array(codes, np.int16)}


def _broken_rule(method: Gopher, text: str) -> str:
    """The first rule that a text breaks, or `kept`."""
    if _endless(method, text):
        return "too_many_words"
    words = words_of(method.words, text)
    rules = (_words(method, words), _symbols(method, text, words), _repetition(method, text, words))
    return next((reason for rule in rules for reason in rule), KEPT)


def _endless(method: Gopher, text: str) -> bool:
    """Whether a long text has too many words, found without a list of them all."""
    # A word has at least one character, and so has what parts it from the next one.
    if len(text) < 2 * method.max_words:
        return False
    words = each_word(method.words, text)
    spoken = (True for word in words if word[0].isalnum() or _SPOKEN.search(word))
    return next(islice(spoken, method.max_words, None), False)


def _words(method: Gopher, words: list[str]) -> Iterator[str]:
    spoken = [word for word in words if word[0].isalnum() or _SPOKEN.search(word)]
    if len(spoken) < method.min_words:
        yield "too_few_words"
    if len(spoken) > method.max_words:
        yield "too_many_words"
    length = sum(map(len, spoken))
    if spoken and length / len(spoken) < method.min_mean_word:
        yield "short_words"
    if spoken and length / len(spoken) > method.max_mean_word:
        yield "long_words"


def _symbols(method: Gopher, text: str, words: list[str]) -> Iterator[str]:
    if _share(text.count("#"), words) > method.max_symbol_ratio:
        yield "hashes"
    if _share(text.count("...") + text.count("…"), words) > method.max_symbol_ratio:
        yield "ellipses"
    lines = text.splitlines()
    bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines)
    if _share(bullets, lines) > method.max_bullet_lines:
        yield "bullets"
    open_ends = sum(line.rstrip().endswith(("...", "…")) for line in lines)
    if _share(open_ends, lines) > method.max_ellipsis_lines:
        yield "lines_with_ellipsis"
    # Most words are letters only; the others are looked at where those are not enough.
    lettered = sum(map(str.isalpha, words))
    if words and _share(lettered, words) < method.min_alpha_words:
        lettered += sum(1 for word in filterfalse(str.isalpha, words) if _LETTER.search(word))
        if _share(lettered, words) < method.min_alpha_words:
            yield "few_letters"
    if len(STOP_WORDS.intersection(words)) < method.min_stop_words:
        yield "few_stop_words"


def _repetition(method: Gopher, text: str, words: list[str]) -> Iterator[str]:
    found, characters = _repeated(_PARAGRAPHS.split(text.strip()))
    if found > method.max_duplicate_paragraphs:
        yield "duplicate_paragraphs"
    if _share(characters, text) > method.max_duplicate_paragraph_characters:
        yield "duplicate_paragraph_characters"
    found, characters = _repeated(_LINES.split(text))
    if found > method.max_duplicate_lines:
        yield "duplicate_lines"
    if _share(characters, text) > method.max_duplicate_line_characters:
        yield "duplicate_line_characters"
    for size, most in enumerate(method.top_ngrams, start=2):
        if _share(_top(words, size), text) > most:
            yield f"top_{size}_gram"
    for size, most in enumerate(method.duplicate_ngrams, start=5):
        runs = list(zip(*(words[at:] for at in range(size)), strict=False))
        if len(set(runs)) == len(runs):
            return  # where no run is repeated no longer one is
        if _share(_covered(runs, size), text) > most:
            yield f"duplicate_{size}_grams"


def _share(count: int, whole: Sequence[str]) -> float:
    """The count as a share; a quotient, so that what is at a limit of 30% is not above it."""
    return count / len(whole) if whole else 0.0


def _repeated(parts: Sequence[str]) -> tuple[float, int]:
    """Share of the parts that repeat an earlier one, and the characters in those."""
    if len(set(parts)) == len(parts):
        return 0.0, 0
    counts = Counter(parts)
    characters = sum(len(part) * (times - 1) for part, times in counts.items())
    return (len(parts) - len(counts)) / len(parts), characters


def _top(words: list[str], size: int) -> int:
    """Characters in all copies of the most frequent run, blanks between its words counted."""
    counts = Counter(zip(*(words[at:] for at in range(size)), strict=False))
    if not counts:
        return 0
    run = max(counts, key=counts.__getitem__)  # of equally frequent ones, the first in the text
    return counts[run] * (sum(map(len, run)) + size - 1)


def _covered(runs: list[tuple[str, ...]], size: int) -> int:
    """Characters in runs that repeat an earlier one, none counted twice."""
    seen: set[tuple[str, ...]] = set()
    characters = at = 0
    while at < len(runs):
        run = runs[at]
        if run in seen:
            characters += sum(map(len, run))
            at += size
        else:
            seen.add(run)
            at += 1
    return characters
