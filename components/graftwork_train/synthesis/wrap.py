"""WRAP: documents rephrased in several styles, mixed one to one with the real text.

"Rephrasing the Web: A Recipe for Compute and Data-Efficient Language Modeling", arXiv:2401.16380,
section 3. Documents are cut into pieces of about 300 tokens; each piece is rephrased in one style:

    easy, medium, hard   a paraphrase in simple words, as an encyclopaedia, for specialists
    qa                   questions and answers

and training reads as many tokens of real text as of rephrased.

Differs from the paper: the prompts are our own; pieces are measured in words and signs, since the
tokenizer is made later; a style is drawn for each piece by a hash, so that the same piece gets the
same style whatever stands around it. Rephrased text forms the domain `synthetic`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from graftwork.spec.synthesis import Wrap
from graftwork_train.synthesis import _prompts
from graftwork_train.synthesis._mixing import Mixer
from graftwork_train.synthesis._report import report_mix, report_styles
from graftwork_train.synthesis._text import chunks
from graftwork_train.synthesis.base import Ask, Desk, Document, Documents, synthesize


@synthesize.register
def wrap(method: Wrap, documents: Documents, desk: Desk) -> Iterator[Document]:
    """Rephrased pieces and real documents, in the shares of the word."""
    mixer = Mixer(method.synthetic)
    styles: Counter[str] = Counter()
    seen: Document | None = None
    for request, answer in desk.ask(_asks(method, documents, desk.seed)):
        if request.origin is not seen:
            seen = request.origin
            yield from mixer.add(seen, synthetic=False)
        if answer.reason != "ok":
            continue
        styles[request.style] += 1
        place = f"{request.style}-{request.number}"
        text = _prompts.made(request, answer.text, desk.writer, place)
        yield from mixer.add(text, synthetic=True)
    mixer.finish()
    report_styles(desk, styles)
    report_mix(desk, mixer)


def _asks(method: Wrap, documents: Documents, seed: int) -> Iterator[Ask]:
    for batch in documents.batches("rephrasing"):
        for document in batch.documents:
            for number, piece in enumerate(chunks(document.text, method.chunk)):
                style = _prompts.drawn(method.styles, f"{seed}\0{document.id}\0{number}")
                yield _prompts.ask(style, piece, document, number)
