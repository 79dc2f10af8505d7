r"""Questions and answers for supervised fine-tuning: the loss is on answers alone.

The second stage of Tan and Wang, 1.5-Pints Technical Report, arXiv:2408.03506.

    ### Question\n <question> \n\n### Answer\n <answer> <end of document>
    \_______________ no label _______________/ \_______ labels ________/

A conversation of several turns repeats this; only its last answer is followed by the end of a
document. What a system message says stands before the first question.

Differs from the paper: the template is our own and in words, so that a tokenizer needs no special
tokens for it; theirs was not seen.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from graftwork.spec.formats import Chat
from graftwork_train.data.documents import Document
from graftwork_train.formats.base import Laid, Span, lay_out, question


@lay_out.register
def chat(method: Chat, document: Document) -> Laid:
    """The answer after its question, or all turns; nothing of a document without a question."""
    if method.prompt is None:
        spans = tuple(_turns(method, _messages(document.text)))
    else:
        asked = document.metadata.get(method.prompt, "")
        spans = (question(method, asked), Span(document.text, predicted=True)) if asked else ()
    if not spans:
        return Laid((), document.text)
    return Laid((spans,), "".join(span.text for span in spans))


def _messages(text: str) -> list[dict[str, Any]]:
    """Messages that end with an answer, or none."""
    try:
        found = json.loads(text)
    except ValueError:
        return []
    if not isinstance(found, list) or not all(_is_message(one) for one in found):
        return []
    while found and found[-1]["role"] != "assistant":
        found.pop()
    asked = [one["role"] for one in found if one["role"] != "system"]
    alternate = asked == ["user", "assistant"] * (len(asked) // 2)
    return found if alternate else []


def _is_message(one: Any) -> bool:  # noqa: ANN401 - of a file
    return (
        isinstance(one, dict)
        and one.get("role") in ("system", "user", "assistant")
        and isinstance(one.get("content"), str)
    )


def _turns(method: Chat, messages: list[dict[str, Any]]) -> Iterator[Span]:
    before = ""
    for message in messages:
        content = message["content"]
        if message["role"] == "assistant":
            yield Span(content, predicted=True)
            before = "\n\n"
        elif message["role"] == "user":
            asked = question(method, content)
            yield Span(before + asked.text, asked.predicted)
            before = ""
        else:
            before += f"{content}\n\n"
