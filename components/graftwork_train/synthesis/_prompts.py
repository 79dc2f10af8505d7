"""The prompts, in words of our own, and their digests for provenance.

`{text}` stands for the text. A digest changes with a prompt's words, so every document tells by
which words it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
    "mcq": (
        "Write a short quiz on the text below. Each question has four choices, A to D, of which "
        "one is right by the text; say which on a line of its own that begins with 'Right:'."
        "\n\nText:\n{text}"
    ),
    "list": (
        "Bring what the text below says into a list, one statement to a line, each to be "
        "understood without the others.\n\nText:\n{text}"
    ),
    "summary": (
        "Write a text of its own, a third as long at most, that gives what matters in the text "
        "below. Its reader does not know of the text: never speak of it.\n\nText:\n{text}"
    ),
    "lesson": (
        "Teach what the text below holds to a willing beginner: what it is about, why it matters, "
        "each step with its reason, a small example where one helps.\n\nText:\n{text}"
    ),
    "continue": (
        "The text below breaks off. Write what comes next, in its manner and its tone, and repeat "
        "nothing of it.\n\nText:\n{text}"
    ),
    "latent": (
        "A passage stands below, with what came before it. Write down what its author must have "
        "known and thought to get from the one to the other: facts that go unsaid, the reason for "
        "each claim, every step of a calculation, one after the other. Do not repeat the passage, "
        "and do not speak of it.\n\nBefore:\n{text}"
    ),
    "rewrite": (
        "Take the text below for a first draft that somebody handed in. Find out which task it was "
        "meant to fulfil, and fulfil it better than the draft: keep what is right, mend what is "
        "wrong or unclear, add what an expert in the matter would not leave out. First write down "
        "your plan and your thoughts, step by step, between a line [[plan]] and a line [[/plan]]. "
        "Then write the finished text between a line [[result]] and a line [[/result]]."
        "\n\nText:\n{text}"
    ),
}


def digest(style: str) -> str:
    """12 hexadecimal digits that stand for the words of a style's prompt."""
    return sha256(f"{SYSTEM}\0{PROMPTS[style]}".encode()).hexdigest()[:12]


def ask(
    style: str,
    text: str,
    origin: Document,
    number: int = 0,
    fits: Callable[[str], str] | None = None,
) -> Ask:
    """The request for a text in a style; `fits` judges the answers."""
    prompt = PROMPTS[style].replace("{text}", text)
    return Ask(style, text, SYSTEM, prompt, origin, number, fits)


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
