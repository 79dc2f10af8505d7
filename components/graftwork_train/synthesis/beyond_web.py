"""BeyondWeb: the best documents rewritten in many forms, mixed into real text.

"BeyondWeb: Lessons from Scaling Synthetic Data for Trillion-scale Pretraining", arXiv:2508.10975.
What to rephrase, how, and how differently matter together:

    source   only the best documents, by a classifier of quality, are rewritten
    forms    questions, quizzes, lists, summaries, lessons, prose: each piece takes one of them
    mix      40% of the tokens are rewritten text, 60% real text of high quality

Differs from the paper: its prompts and shares of forms are not public, so both are our own; the
classifier learns what is good from a domain that the spec names. Copies of the source are dropped
by their runs of five words, and a result of too few forms is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from graftwork.errors import RunError
from graftwork.spec.synthesis import BeyondWeb
from graftwork_train.synthesis import _prompts
from graftwork_train.synthesis._mixing import Mixer
from graftwork_train.synthesis._quality import Scores, above, learn
from graftwork_train.synthesis._report import entropy, report_mix, report_styles
from graftwork_train.synthesis._text import chunks, overlap
from graftwork_train.synthesis.base import Ask, Desk, Document, Documents, synthesize


@synthesize.register
def beyond_web(method: BeyondWeb, documents: Documents, desk: Desk) -> Iterator[Document]:
    """Rewritten pieces and real documents of high quality, in the shares of the word.

    Raises:
        RunError: there is no second domain to learn quality from, or the forms that came out are
            less diverse than the word demands.
    """
    _, scores = learn(documents, method.good, desk.seed)
    border = above(scores, method.keep)
    mixer = Mixer(method.synthetic)
    forms: Counter[str] = Counter(dict.fromkeys(method.styles, 0))
    seen: Document | None = None
    for request, answer in desk.ask(_asks(method, documents, scores, border, desk.seed)):
        if request.origin is not seen:
            seen = request.origin
            yield from mixer.add(seen, synthetic=False)
        if answer.reason != "ok":
            continue
        if overlap(answer.text, request.text) > method.copied:
            desk.counts["copied"] += 1
            continue
        forms[request.style] += 1
        place = f"{request.style}-{request.number}"
        text = _prompts.made(request, answer.text, desk.writer, place)
        yield from mixer.add(text, synthetic=True)
    mixer.finish()
    desk.metrics["sources_share"] = float((scores >= border).mean())
    report_mix(desk, mixer)
    _report_forms(method, forms, desk)


def _asks(
    method: BeyondWeb, documents: Documents, scores: Scores, border: float, seed: int
) -> Iterator[Ask]:
    at = 0
    for batch in documents.batches("rewriting"):
        for document in batch.documents:
            good = scores[at] >= border
            at += 1
            if not good:
                continue
            for number, piece in enumerate(chunks(document.text, method.chunk)):
                form = _prompts.drawn(method.styles, f"{seed}\0{document.id}\0{number}")
                yield _prompts.ask(form, piece, document, number)


def _report_forms(method: BeyondWeb, forms: Counter[str], desk: Desk) -> None:
    report_styles(desk, forms)
    found = entropy(forms)
    desk.metrics["diversity"] = found
    if found < method.diversity:
        counts = ", ".join(f"{form} {count:,}" for form, count in forms.most_common())
        raise RunError(
            f"the rewritten texts are less diverse than asked for: entropy {found:.0%} of the "
            f"largest, and 'diversity' is {method.diversity:.0%} ({counts})",
            "Look at why some forms are missing, give more documents, or lower 'diversity'.",
        )
