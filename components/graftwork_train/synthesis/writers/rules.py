"""Rules that rewrite without a model: the same text every time, for tests and small machines.

They know styles, not prompts. What they write is true to the source and tidier than it, never
clever: white space folded, lines of signs dropped, sentences apart.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

from graftwork.spec.writers import Rules
from graftwork_train.synthesis._text import sentences
from graftwork_train.synthesis.base import Answer, Ask
from graftwork_train.synthesis.writers.base import Office, Scribe, Useful, hire

_WORD = re.compile(r"[A-Za-z][A-Za-z'-]+")
_SIGNS = re.compile(r"^[\W_]*$")
_COMMON = frozenset(
    ["the", "a", "an", "and", "or", "of", "to", "in", "is", "are", "was", "be", "it", "that",
     "this", "for", "on", "with", "as", "by", "not", "if", "from", "at"]
)  # fmt: skip


def tidy(text: str) -> list[str]:
    """The text's sentences without lines of mere signs."""
    lines = [line for line in text.splitlines() if not line.strip() or not _SIGNS.match(line)]
    return sentences("\n".join(lines))


def topic(sentence: str) -> str:
    """The longest of the rarer words."""
    words = [word for word in _WORD.findall(sentence) if word.lower() not in _COMMON]
    return max(words, key=len, default="it")


def _easy(parts: list[str]) -> str:
    return "\n".join(piece.strip() for part in parts for piece in re.split(r"[;:]\s", part))


def _medium(parts: list[str]) -> str:
    return " ".join(parts)


def _hard(parts: list[str]) -> str:
    return "; ".join(part.rstrip(".") for part in parts) + "."


def _qa(parts: list[str]) -> str:
    pairs = [f"Question: What is said of {topic(p)}?\nAnswer: {p}" for p in parts]
    return "\n\n".join(pairs)


def key_words(parts: list[str], most: int) -> list[str]:
    """The words that come most often, the common ones left out."""
    words = [word.lower() for part in parts for word in _WORD.findall(part)]
    counts = Counter(word for word in words if word not in _COMMON)
    return [word for word, _ in counts.most_common(most)]


def _mcq(parts: list[str]) -> str:
    words = [*key_words(parts, 3), "none of these", "all of these", "something else"][:3]
    found = []
    for number, part in enumerate(parts):
        choices = [*words]
        choices.insert(number % 4, topic(part))
        listed = "\n".join(f"{letter}. {c}" for letter, c in zip("ABCD", choices, strict=True))
        found.append(f"What is this said of: {part}\n{listed}\nRight: {'ABCD'[number % 4]}")
    return "\n\n".join(found)


def _list(parts: list[str]) -> str:
    return "\n".join(f"- {part}" for part in parts)


def _summary(parts: list[str]) -> str:
    wanted = set(key_words(parts, 5))
    ranked = sorted(
        range(len(parts)),
        key=lambda at: (-sum(w.lower() in wanted for w in _WORD.findall(parts[at])), at),
    )
    return " ".join(parts[at] for at in sorted(ranked[: max(1, len(parts) // 3)]))


def _lesson(parts: list[str]) -> str:
    steps = [f"Step {number}: {part}" for number, part in enumerate(parts, 1)]
    return "\n".join([f"This lesson is about {topic(' '.join(parts))}.", *steps])


def _continue(parts: list[str]) -> str:
    return f"Of {topic(' '.join(parts))} there is more to say. {parts[-1]}"


def _rewrite(parts: list[str]) -> str:
    plan = f"Say in whole sentences what there is on {', '.join(key_words(parts, 3))}."
    text = f"{_medium(parts)}\n\nIn short: {_summary(parts)}"
    return f"[[plan]]\n{plan}\n[[/plan]]\n[[result]]\n{text}\n[[/result]]"


def _latent(parts: list[str]) -> str:
    return f"It goes on about {', '.join(key_words(parts, 5)) or topic(parts[-1])}."


STYLES: dict[str, Callable[[list[str]], str]] = {
    "easy": _easy,
    "medium": _medium,
    "hard": _hard,
    "qa": _qa,
    "mcq": _mcq,
    "list": _list,
    "summary": _summary,
    "lesson": _lesson,
    "continue": _continue,
    "rewrite": _rewrite,
    "latent": _latent,
}


class RulesScribe:
    """Writes by the rule of the ask's style."""

    concurrency = 1
    flops = 0.0

    def answer(self, ask: Ask, useful: Useful) -> Answer:
        """The rewritten text; empty for a text without a word."""
        steps = ask.origin.metadata.get("steps", "") if ask.style == "latent" else ""
        parts = tidy(ask.text)
        # Problems that we made ourselves come with their steps: nothing needs to be thought up.
        text = steps or (STYLES[ask.style](parts) if parts else "")
        return Answer(text, useful(ask, text))

    def stop(self) -> None:
        """Nothing is under way."""


@hire.register
def hire_rules(word: Rules, office: Office) -> Scribe:
    """Rules need nothing."""
    return RulesScribe()
