"""Answers of a model, right to the letter or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tokenizers import Tokenizer

from graftwork.errors import RunError
from graftwork.spec.questions import ExactMatch
from graftwork_train.data.documents import Document
from graftwork_train.data.tokenizer import Encoder
from graftwork_train.decoding import decode
from graftwork_train.nn.transformer import Decoder

_AT_ONCE = 256
_EXAMPLES = 8


@dataclass(slots=True)
class Answered:
    """How many answers were right.

    Attributes:
        asked: Questions.
        right: Answers that are equal.
        unasked: Documents without the mark that ends a question.
        rows: For the report: question, answer that is due, answer that came.
    """

    asked: int = 0
    right: int = 0
    unasked: int = 0
    rows: list[list[str]] | None = None

    @property
    def share(self) -> float:
        """Share of the answers that are right."""
        return self.right / self.asked

    def table(self) -> dict[str, Any]:
        """The first questions, for the report."""
        title = f"{self.right:,} of {self.asked:,} answers are right ({self.share:.1%})"
        columns = ["question", "answer", "the model's answer"]
        return {"title": title, "columns": columns, "rows": self.rows or []}


def exact_match(
    word: ExactMatch, model: Decoder, encoder: Encoder, documents: Iterable[Document]
) -> Answered:
    """Ask the model the documents' questions.

    Raises:
        RunError: no document has a question, or one leaves no room for an answer.
    """
    found = Answered(rows=[])
    tokenizer = Tokenizer.from_str(encoder.text)
    questions = _questions(word, documents, found)
    while some := list(islice(questions, _AT_ONCE)):
        prompts = [ids.tolist() for ids in encoder.each([question for question, _ in some])]
        _check(prompts, some, model)
        texts = decode(model, prompts, word.tokens, ends={encoder.eos})
        for (question, due), text in zip(some, texts, strict=True):
            came = tokenizer.decode(text.tokens, skip_special_tokens=False)
            told = [_part(answer, word) for answer in (due, came if text.ended else "")]
            found.asked += 1
            found.right += told[0] == told[1]
            if found.rows is not None and len(found.rows) < _EXAMPLES:
                found.rows.append([question, told[0], _part(came, word)])
    if not found.asked:
        raise RunError(
            f"none of {found.unasked:,} documents has {word.after!r}, which ends a question",
            "Name what stands between question and answer in 'exact_match.after'.",
        )
    return found


def _questions(
    word: ExactMatch, documents: Iterable[Document], found: Answered
) -> Iterator[tuple[str, str]]:
    taken = 0
    for document in documents:
        question, mark, answer = document.text.partition(word.after)
        if not mark:
            found.unasked += 1
            continue
        yield question + mark, answer
        taken += 1
        if taken == word.documents:
            return


def _part(answer: str, word: ExactMatch) -> str:
    stripped = answer.strip()
    return stripped if word.answer == "whole" else stripped.rpartition("\n")[2].strip()


def _check(
    prompts: Sequence[Sequence[int]], some: Sequence[tuple[str, str]], model: Decoder
) -> None:
    for prompt, (question, _) in zip(prompts, some, strict=True):
        if not 0 < len(prompt) < model.context:
            raise RunError(
                f"the question {question[:60]!r} has {len(prompt)} tokens, and the model a context "
                f"of {model.context}",
                "Ask shorter questions, or prepare the data with a longer context.",
            )
