"""Prompt-based continued pre-training: every text in a template, with the word of its label.

Shi and Lipani, "Don't Stop Pretraining? Make Prompt-based Fine-tuning Powerful Learner",
arXiv:2305.01711. For a text a, or a pair a and b, of the label y with the word v(y):

    single   {a} It was {v(y)} .
    pair     {a} ? {v(y)} , {b}

Training goes on with these texts, the label's word masked as any other, before the model is tuned
by the same template. Labels are the documents' own (fully supervised), or a tuned model's, from a
stage that writes `pseudo_labels` (semi-supervised).

A soft template is written with signs of its own, `{a} <s1> {label} <s2>`, that the tokenizer has
in its `tokens`: their embeddings mean nothing before they are trained with all other weights.

Differs from the paper: a soft template's embeddings begin as the model's others do, and not as
those of tokens that its vocabulary left unused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from graftwork.errors import RunError
from graftwork.spec.synthesis import Pcp
from graftwork_train.synthesis.base import Desk, Document, Documents, synthesize


@synthesize.register
def pcp(method: Pcp, documents: Documents, desk: Desk) -> Iterator[Document]:
    """Every document that can be filled in, in order.

    Raises:
        RunError: a document of a pair has no second text.
    """
    prompt, labels = method.prompt, Counter[str]()
    for batch in documents.batches("filling the template"):
        for document in batch.documents:
            label = document.metadata.get(prompt.label)
            if label is None and method.unlabelled == "drop":
                desk.counts["no_label"] += 1
                continue
            if label is not None and label not in prompt.words:
                desk.counts["no_word"] += 1
                continue
            word = None if label is None else prompt.words[label]
            try:
                text = prompt.filled(document.text, document.metadata, word)
            except KeyError as error:
                raise RunError(
                    f"document {document.id} has no second text in its metadata {error}",
                    "Keep the field in the corpus's 'metadata', or take {b} out of the template.",
                ) from error
            labels[label or "none"] += 1
            known = {**document.metadata, "style": "open" if word is None else "filled"}
            yield Document(document.id, text, document.domain, known)
    rows = [[label, prompt.words.get(label, ""), count] for label, count in sorted(labels.items())]
    desk.tables.append({"title": "Labels", "columns": ["label", "word", "documents"], "rows": rows})
    desk.metrics.update({f"labels/{label}": float(count) for label, count in labels.items()})
