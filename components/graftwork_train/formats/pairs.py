"""A chosen and a rejected answer to one question, as DPO compares them.

The third stage of Tan and Wang, 1.5-Pints Technical Report, arXiv:2408.03506; the loss is that of
Rafailov et al., arXiv:2305.18290. Each pair is two documents in one sequence, the chosen one first,
both written as `chat` writes them; neither sees the other.

Differs from the paper: the template is that of `chat`.
"""

from __future__ import annotations

from graftwork.spec.formats import Pairs
from graftwork_train.data.documents import Document
from graftwork_train.formats.base import Laid, Span, lay_out, question


@lay_out.register
def pairs(method: Pairs, document: Document) -> Laid:
    """Both answers, each after the question; nothing where one of the three is missing."""
    asked = document.metadata.get(method.prompt, "")
    rejected = document.metadata.get(method.rejected, "")
    if not asked or not rejected or rejected == document.text:
        return Laid((), document.text)
    head = question(method, asked)
    answers = (document.text, rejected)
    versions = tuple((head, Span(answer, predicted=True)) for answer in answers)
    return Laid(versions, "".join(span.text for spans in versions for span in spans))
