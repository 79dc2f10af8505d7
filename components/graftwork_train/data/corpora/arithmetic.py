"""Sums and differences by rules of ours: text, questions and mistakes, the same on every machine.

All problems of a size stand in one order, by a hash of their numbers; a corpus takes some of them,
so that corpora of other places in the order share none. A document is the answer, a sentence; its
metadata are a `question`, in one of several wordings, and a `wrong` answer: the mistakes of someone
who adds without carrying, or takes the smaller digit from the larger, or is off by one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from graftwork.spec.data import ArithmeticCorpus
from graftwork.spec.resources import Storage
from graftwork_train.data.corpora.base import Part, parts, read
from graftwork_train.data.documents import Document, Item

_ASKED = {
    "+": ("What is {a} plus {b}?", "Add {b} to {a}.", "How much are {a} and {b} together?"),
    "-": ("What is {a} minus {b}?", "Take {b} from {a}.", "How much more is {a} than {b}?"),
}
_DOMAINS = {"+": "sums", "-": "differences"}
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
        sign = "+-"[kind]
        asked = _ASKED[sign][number % len(_ASKED[sign])].format(a=a, b=b)
        found = {"question": asked, "wrong": sentence(a, b, sign, mistake(a, b, sign))}
        text = sentence(a, b, sign, a + b if sign == "+" else a - b)
        yield Document(f"{part.name}/{number}", text, _DOMAINS[sign], found)


def order(total: int) -> npt.NDArray[np.int64]:
    """The numbers below `total`, in the order of a hash (splitmix64)."""
    with np.errstate(over="ignore"):
        mixed = np.arange(1, total + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.argsort(mixed ^ (mixed >> np.uint64(31)), kind="stable")


def sentence(a: int, b: int, sign: str, result: int) -> str:
    """A problem with its result."""
    return f"{a} {sign} {b} = {result}."


def mistake(a: int, b: int, sign: str) -> int:
    """A wrong result."""
    digits = max(len(str(a)), len(str(b)))
    pairs = zip(f"{a:0{digits}}", f"{b:0{digits}}", strict=True)
    made = 0
    for one, other in pairs:
        digit = (int(one) + int(other)) % 10 if sign == "+" else abs(int(one) - int(other))
        made = 10 * made + digit
    right = a + b if sign == "+" else a - b
    return made if made != right else right + 1
