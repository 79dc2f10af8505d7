"""C4's rules: enough sentences in lines that end as sentences do, no code, no filler.

Raffel et al., Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer,
arXiv:1910.10683, section 2.2.

    a line counts if it ends with terminal punctuation (no ellipsis), has at least 3 words, none of
    them longer than 1000 characters, and speaks neither of Javascript nor of cookies and policies
    drop documents with `lorem ipsum`, with a curly bracket, or with fewer than 5 sentences in the
    lines that count

Differs from the paper: it also removes the lines that do not count from the documents it keeps,
while a selection keeps texts as they are; `min_counting` drops documents that consist of too many
such lines. Its list of bad words, its removal of repeated passages and its test for English are no
part of this; `exact_dedup` and `pretrainers_guide` do what comes nearest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from graftwork.spec.filters import C4
from graftwork_train.data.documents import Batch
from graftwork_train.data.stream import Arrays, Stream
from graftwork_train.selection.base import KEPT, Context, Verdicts, judged, select

REASONS = (KEPT, "lorem_ipsum", "curly_bracket", "too_few_sentences", "too_few_counting_lines")
_CODES = {reason: code for code, reason in enumerate(REASONS)}
_ENDS = (".", "?", "!", '"', "'", "”", "’")
_CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
_POLICY = re.compile(
    r"terms of use|privacy policy|cookie policy|uses? (?:of )?cookies|use cookies", re.IGNORECASE
)
# A sentence ends with its mark, closing quotes and brackets, and a blank or the line's end.
_SENTENCE_END = re.compile(r"[.?!]+[\"'”’)\]]*(?=\s|$)")


@select.register
def c4(method: C4, documents: Stream, context: Context) -> Verdicts:
    """Apply the rules; the score is the share of a text's characters in lines that count."""
    return judged(documents, _Judge(method), REASONS)


@dataclass(frozen=True, slots=True)
class _Judge:
    """Codes and scores of a batch, (documents,) each."""

    method: C4

    def __call__(self, batch: Batch) -> Arrays:
        found = [_judge(self.method, text) for text in batch.texts]
        return {
            "codes": np.array([_CODES[reason] for reason, _ in found], np.int16),
            "scores": np.array([share for _, share in found], np.float32),
        }


def _judge(method: C4, text: str) -> tuple[str, float]:
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    counting = [line for line in lines if _counts(method, line)]
    share = sum(map(len, counting)) / max(sum(map(len, lines)), 1)
    if method.lorem_ipsum and "lorem ipsum" in text.lower():
        return "lorem_ipsum", share
    if method.curly_bracket and ("{" in text or "}" in text):
        return "curly_bracket", share
    if sum(map(_sentences, counting)) < method.min_sentences:
        return "too_few_sentences", share
    return ("too_few_counting_lines" if share < method.min_counting else KEPT), share


def _counts(method: C4, line: str) -> bool:
    line = _CITATION.sub("", line).rstrip()
    if method.terminal_punctuation and (not line.endswith(_ENDS) or line.endswith("...")):
        return False
    words = line.split()
    if len(words) < method.min_line_words or any(len(word) > method.max_word for word in words):
        return False
    if method.javascript and "javascript" in line.lower():
        return False
    return not (method.policy and _POLICY.search(line))


def _sentences(line: str) -> int:
    """Sentences of a line; one that ends otherwise than by a mark is one too."""
    ends = list(_SENTENCE_END.finditer(line))
    return len(ends) + (not ends or ends[-1].end() < len(line))
