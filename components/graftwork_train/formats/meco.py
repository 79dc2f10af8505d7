r"""MeCo: metadata before every document, read and not predicted.

Gao et al., Metadata Conditioning Accelerates Language Model Pre-training, arXiv:2501.01956.

    URL: en.wikipedia.org\n\n <text> <end of document>
    \_______ no label ______/ \_______ labels _______/

of a URL the network location alone. Training so for 90 % of the tokens is followed by a cooldown
on plain documents: a `continue` stage on the same corpus prepared without the format, with
`optimizer_state: keep` and a schedule that counts on (`past`). Without it, the model is worse
where no metadata is given.

Held-out documents are the same with the format and without.

Differs from the paper: documents begin with no token of their own; the metadata's first token, or
without metadata the text's, has no label for want of one before it. `every: sequence` repeats the
metadata in the parts of a document that is longer than a sequence; the paper's sequences have 8192
tokens, so that few are. `part: netloc` also takes the first folder of a path.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from graftwork.spec.formats import Meco
from graftwork_train.data.documents import Document
from graftwork_train.formats.base import Laid, Span, lay_out


@lay_out.register
def meco(method: Meco, document: Document) -> Laid:
    """The document after its metadata, if it has any."""
    text = Span(document.text, predicted=True)
    value = document.metadata.get(method.field, "")
    if method.field == "domain":
        value = value or document.domain
    if method.part == "netloc":
        value = netloc(value)
    if not value.strip():
        return Laid(((text,),), document.text, written=False)
    head = Span(f"{method.label}{value}\n\n", predicted=False)
    return Laid(((head, text),), document.text)


def netloc(url: str) -> str:
    """The network location of a URL, or the first part of a path; nothing where there is none."""
    try:
        return urlsplit(url if "://" in url else f"//{url.lstrip('/')}").netloc.rpartition("@")[2]
    except ValueError:  # a broken IPv6 address
        return ""
