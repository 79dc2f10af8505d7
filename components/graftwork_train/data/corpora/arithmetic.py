"""Sums and differences by rules of ours: text, questions and mistakes, the same on every machine.

All problems of a size stand in one order, by a hash of their numbers; a corpus takes some of them,
so that corpora of other places in the order share none. A document is the answer, a sentence; its
metadata are a `question`, in one of several wordings, and a `wrong` answer: the mistakes of someone
who adds without carrying, or takes the smaller digit from the larger, or is off by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from graftwork.spec.arithmetic import Operation
from graftwork.spec.data import ArithmeticCorpus
from graftwork.spec.resources import Storage
from graftwork_train.data.corpora.base import Part, parts, read
from graftwork_train.data.documents import Document, Item
from graftwork_train.data.problems import SIGNS, Problem, steps
from graftwork_train.data.scoring.hashing import mix

_ASKED: dict[Operation, tuple[str, ...]] = {
    "add": ("What is {a} plus {b}?", "Add {b} to {a}.", "How much are {a} and {b} together?"),
    "subtract": ("What is {a} minus {b}?", "Take {b} from {a}.", "How much more is {a} than {b}?"),
}
_DOMAINS: dict[Operation, str] = {"add": "sums", "subtract": "differences"}
_KINDS: tuple[Operation, ...] = ("add", "subtract")
# About as long is a document.
_BYTES = 16


@parts.register
def arithmetic_parts(corpus: ArithmeticCorpus, name: str, storage: Storage) -> list[Part]:
    """All of it is one piece."""
    return [Part(name, "arithmetic", name, corpus.problems * _BYTES, corpus.limit)]


@read.register
def read_arithmetic(corpus: ArithmeticCorpus, part: Part, storage: Storage) -> Iterator[Item]:
    """The problems of the corpus, in the order of the hash."""
    base = 10**corpus.digits
    numbers = order(corpus.total)[corpus.first : corpus.first + corpus.problems]
    for number in numbers.tolist():
        rest, b = divmod(number, base)
        kind, a = divmod(rest, base)
        problem = Problem(_KINDS[kind], a, b)
        wordings = _ASKED[problem.operation]
        asked = wordings[number % len(wordings)].format(a=a, b=b)
        found = {"question": asked, "wrong": sentence(problem, str(mistake(problem)))}
        text = sentence(problem, problem.result)
        yield Document(f"{part.name}/{number}", text, _DOMAINS[problem.operation], found)


def order(total: int) -> npt.NDArray[np.int64]:
    """The numbers below `total`, in the order of a hash (splitmix64)."""
    mixed = mix(np.arange(1, total + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    return np.argsort(mixed, kind="stable")


def sentence(problem: Problem, result: str) -> str:
    """A problem with a result, right or wrong."""
    return f"{problem.first} {SIGNS[problem.operation]} {problem.second} = {result}."


def mistake(problem: Problem) -> int:
    """A wrong result."""
    adds = problem.operation == "add"
    digits = ((step.first, step.second) for step in steps(problem.first, problem.second))
    made = _joined(one + other if adds else abs(one - other) for one, other in digits)
    right = int(problem.result)
    return made if made != right else right + 1


def _joined(columns: Iterable[int]) -> int:
    """The number whose digits, from the last, are those of the columns without what they carry."""
    return sum(column % 10 * 10**at for at, column in enumerate(columns))
