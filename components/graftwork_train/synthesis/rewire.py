"""REWIRE: low-quality documents rewritten by a plan, filtered, and mixed with good ones.

"Recycling the Web: A Method to Enhance Pre-training Data Quality and Quantity for Language Models",
arXiv:2506.04689, section 3.

    choose    documents of low and moderate quality; the good ones stay as they are
    rewrite   the document is taken for a draft: find its task, plan, then write it well, the plan
              and the result each between tags of its own
    parse     the result's span alone; answers without it, or with the plan in it, are nonsense
    filter    a classifier of quality keeps the best of the rewritten texts, by a quantile
    mix       one to one with the good documents, in tokens

Differs from the paper: the prompt and its tags are our own, and the classifier learns what is good
from a domain that the spec names.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import partial

import numpy as np

from graftwork.errors import RunError
from graftwork.spec.synthesis import Rewire
from graftwork_train.synthesis import _prompts
from graftwork_train.synthesis._mixing import Mixer, mixed
from graftwork_train.synthesis._quality import Judge, Scores, above, bucket, learn, thirds
from graftwork_train.synthesis._report import report_mix
from graftwork_train.synthesis._spool import Spool
from graftwork_train.synthesis._text import chunks, tokens
from graftwork_train.synthesis.base import Ask, Desk, Document, Documents, synthesize

_ANSWER = re.compile(
    r"\s*\[\[plan\]\](?P<plan>.*?)\[\[/plan\]\]\s*\[\[result\]\](?P<result>.*?)\[\[/result\]\]\s*",
    re.DOTALL,
)
_TAG = re.compile(r"\[\[/?(plan|result)\]\]")
_AT_ONCE = 256


@synthesize.register
def rewire(method: Rewire, documents: Documents, desk: Desk) -> Iterator[Document]:
    """Rewritten texts and good documents, in the shares of the word.

    Raises:
        RunError: there is no second domain to learn quality from, or nothing was rewritten.
    """
    judge, scores = learn(documents, method.good, desk.seed)
    border = above(scores, 1 - method.rewritten) if method.rewritten < 1 else float("inf")
    with Spool() as spool:
        qualities, sources = _rewrite(method, documents, scores, border, desk, judge, spool)
        if not len(qualities):
            raise RunError(
                f"none of the {int((scores < border).sum()):,} documents was rewritten: "
                f"{dict(desk.counts)}",
                "Look at the writer's answers, or raise 'rewritten'.",
            )
        threshold = above(qualities, method.keep)
        desk.counts["low_quality"] += int((qualities < threshold).sum())
        kept = (text for text, q in zip(spool, qualities, strict=True) if q >= threshold)
        mixer = Mixer(method.synthetic)
        shares: Counter[str] = Counter(dict.fromkeys(("low", "middle", "high"), 0))
        for document in mixed(_good(documents, scores, border), kept, mixer):
            if "source_quality" in document.metadata:
                shares[document.metadata["source_quality"]] += tokens(document.text)
            yield document
    report_mix(desk, mixer)
    _report_sources(desk, shares, sources, threshold)


def result_of(answer: str) -> str:
    """The improved text alone; empty where the answer is not a plan and a result, in that order."""
    found = _ANSWER.fullmatch(answer)
    if found is None or _TAG.search(found["plan"]) or _TAG.search(found["result"]):
        return ""
    return found["result"].strip()


def fits(answer: str, source: str, length: float) -> str:
    """`ok`, or what is wrong with an answer to a source."""
    result = result_of(answer)
    if not result:
        return "no_result"
    return "ok" if tokens(result) >= length * tokens(source) else "too_short"


def _rewrite(
    method: Rewire,
    documents: Documents,
    scores: Scores,
    border: float,
    desk: Desk,
    judge: Judge,
    spool: Spool,
) -> tuple[Scores, Counter[str]]:
    """Rewritten texts into the spool; their qualities, and how many are of each third."""
    borders = thirds(scores)
    known: dict[str, float] = {}
    qualities: list[Scores] = [np.zeros(0, np.float32)]
    waiting: list[Document] = []
    sources: Counter[str] = Counter()
    for request, answer in desk.ask(_asks(method, documents, scores, border, known)):
        quality = bucket(known[request.origin.id], borders)
        if answer.reason != "ok":
            continue
        sources[quality] += 1
        text = _prompts.made(
            request, result_of(answer.text), desk.writer, f"rewrite-{request.number}"
        )
        extra = {**text.metadata, "source_quality": quality}
        waiting.append(Document(text.id, text.text, text.domain, extra))
        spool.add(waiting[-1])
        if len(waiting) == _AT_ONCE:
            qualities.append(judge.scores([one.text for one in waiting]))
            waiting = []
    if waiting:
        qualities.append(judge.scores([one.text for one in waiting]))
    return np.concatenate(qualities), sources


def _asks(
    method: Rewire, documents: Documents, scores: Scores, border: float, known: dict[str, float]
) -> Iterator[Ask]:
    for document, score in _scored(documents, scores, "rewriting"):
        if score >= border:
            continue
        known[document.id] = score
        for number, piece in enumerate(chunks(document.text, method.chunk)):
            judged = partial(fits, source=piece, length=method.length)
            yield _prompts.ask("rewrite", piece, document, number, judged)


def _good(documents: Documents, scores: Scores, border: float) -> Iterator[Document]:
    found = _scored(documents, scores, "writing")
    return (document for document, score in found if score >= border)


def _scored(documents: Documents, scores: Scores, doing: str) -> Iterator[tuple[Document, float]]:
    at = 0
    for batch in documents.batches(doing):
        for document in batch.documents:
            yield document, float(scores[at])
            at += 1


def _report_sources(
    desk: Desk, shares: Counter[str], sources: Counter[str], threshold: float
) -> None:
    """Share of the rewritten text that comes of each third of the documents by quality."""
    total = max(1, shares.total())
    rows = []
    for quality, size in shares.items():
        desk.metrics[f"from_quality/{quality}"] = size / total
        rows.append([quality, sources[quality], size, f"{size / total:.1%}"])
    columns = ["quality of the source", "rewritten", "words and signs mixed in", "share"]
    desk.tables.append({"title": "Where rewritten text comes from", "columns": columns,
                        "rows": rows})  # fmt: skip
    desk.metrics["quality_threshold"] = threshold
