"""Pseudo labels: what a tuned model takes unlabelled documents for.

Shi and Lipani, "Don't Stop Pretraining? Make Prompt-based Fine-tuning Powerful Learner",
arXiv:2305.01711: a model that was tuned by a prompt on a few labels gives every
unlabelled text of the task the label whose word it finds likeliest; `pcp` fills these in.

As in the paper, all of them are kept, however sure the model is. A label that a document has
already is taken off before the model, or anything else here, is shown the document.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from graftwork.spec.synthesis import PseudoLabels
from graftwork_train.data.prompts import without_label
from graftwork_train.synthesis.base import Ask, Desk, Document, Documents, synthesize


@synthesize.register
def pseudo_labels(method: PseudoLabels, documents: Documents, desk: Desk) -> Iterator[Document]:
    """Every document with the label that the model gives it, in order."""
    labels: Counter[str] = Counter()
    for request, answer in desk.ask(_asks(method, documents)):
        if answer.reason != "ok":
            continue
        labels[answer.text] += 1
        document = request.origin
        known = {**document.metadata, method.label: answer.text, "labelled_by": desk.writer}
        yield Document(document.id, document.text, document.domain, known)
    rows = [[label, count] for label, count in sorted(labels.items())]
    desk.tables.append({"title": "Labels", "columns": ["label", "documents"], "rows": rows})
    desk.metrics.update({f"labels/{label}": float(count) for label, count in labels.items()})


def _asks(method: PseudoLabels, documents: Documents) -> Iterator[Ask]:
    for batch in documents.batches("labelling"):
        for document in batch.documents:
            blind = without_label(document, method.label)
            # All that an answer can come from, so that another document's is not taken for it.
            beside = (f"{name}={value}" for name, value in sorted(blind.metadata.items()))
            yield Ask("label", blind.text, "", "\0".join([blind.text, *beside]), blind)
