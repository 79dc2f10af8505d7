"""The prompts, in words of our own, and their digests for provenance.

`{text}` stands for the text. A digest changes with a prompt's words, so every document tells by
which words it was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from graftwork_train.synthesis.base import Ask, Document

SYSTEM = (
    "You edit texts for a library. You keep to what a text says, add nothing that it does not "
    "support, and answer with the finished text alone."
)

PROMPTS: dict[str, str] = {
    "easy": (
        "Retell the text below for a child who has just learned to read. Use common short words "
        "and one plain thought to a sentence.\n\nText:\n{text}"
    ),
    "medium": (
        "Say what the text below says once more, in clear and varied prose as a good "
        "encyclopaedia has it.\n\nText:\n{text}"
    ),
    "hard": (
        "Rewrite the text below for specialists: as few words as will do, learned and rare ones "
        "where they are exact, long sentences where they save words.\n\nText:\n{text}"
    ),
    "qa": (
        "Turn the text below into a talk of questions and answers that covers all it says. Begin "
        "each question's line with 'Question:' and each answer's line with 'Answer:'."
        "\n\nText:\n{text}"
    ),
}


def digest(style: str) -> str:
    """12 hexadecimal digits that stand for the words of a style's prompt."""
    return sha256(f"{SYSTEM}\0{PROMPTS[style]}".encode()).hexdigest()[:12]


def ask(style: str, text: str, origin: Document, number: int = 0) -> Ask:
    """The request for a text in a style."""
    return Ask(style, text, SYSTEM, PROMPTS[style].replace("{text}", text), origin, number)


def made(request: Ask, text: str, writer: str, place: str, domain: str = "synthetic") -> Document:
    """The document of an answer, with its provenance.

    Args:
        request: What was asked.
        text: The document's text.
        writer: Name of the writer.
        place: Tells the documents of one origin apart; ends the id.
        domain: Domain of the document.
    """
    known = {
        "source": request.origin.id,
        "source_domain": request.origin.domain,
        "style": request.style,
        "prompt": digest(request.style),
        "writer": writer,
    }
    kept = {name: value for name, value in request.origin.metadata.items() if name not in known}
    return Document(f"{request.origin.id}#{place}", text, domain, {**kept, **known})


def drawn(shares: Mapping[Any, float], mark: str) -> str:
    """One of several by their shares, which add up to 1: the same for the same mark."""
    at = int.from_bytes(sha256(mark.encode()).digest()[:8], "big") / 2**64
    for name, share in shares.items():
        at -= share
        if at < 0:
            return str(name)
    return str(list(shares)[-1])
