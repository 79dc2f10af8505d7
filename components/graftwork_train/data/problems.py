"""Problems of arithmetic: what is asked, what comes out, and the steps of an addition by hand."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from graftwork.spec.arithmetic import Operation

DECIMALS = 10_000
SIGNS: dict[Operation, str] = {"add": "+", "subtract": "-", "multiply": "*"}
_OF_SIGNS = {sign: operation for operation, sign in SIGNS.items()}
_TWO = re.compile(r"(\d+)([+*-])(\d+)")
_ONE = re.compile(r"(sin|sqrt)\((-?\d\d?\.\d{4})\)")
_NAMES: dict[str, Operation] = {"sin": "sine", "sqrt": "sqrt"}


class Problem(NamedTuple):
    """What is to be calculated.

    Attributes:
        operation: Of two whole numbers, or of one in ten-thousandths.
        first: The number, or the first.
        second: The second; 0 where there is none.
    """

    operation: Operation
    first: int
    second: int = 0

    @property
    def question(self) -> str:
        """As in `128+367` or `sin(0.5000)`."""
        if self.operation in SIGNS:
            return f"{self.first}{SIGNS[self.operation]}{self.second}"
        name = "sin" if self.operation == "sine" else "sqrt"
        return f"{name}({self.first / DECIMALS:.4f})"

    @property
    def result(self) -> str:
        """What comes out; functions of one number to four decimals."""
        if self.operation == "add":
            return str(self.first + self.second)
        if self.operation == "subtract":
            return str(self.first - self.second)
        if self.operation == "multiply":
            return str(self.first * self.second)
        function = math.sin if self.operation == "sine" else math.sqrt
        # Adding 0 takes the sign from a zero.
        return f"{round(function(self.first / DECIMALS), 4) + 0.0:.4f}"


class Digit(NamedTuple):
    """One step of an addition by hand: `first + second + carry` gives `digit` and `carried`."""

    first: int
    second: int
    carry: int
    digit: int
    carried: int


def steps(first: int, second: int) -> list[Digit]:
    """Addition digit by digit, from the last; a digit that is missing is 0."""
    found = []
    carry = 0
    for at in range(max(len(str(first)), len(str(second)))):
        a, b = first // 10**at % 10, second // 10**at % 10
        total = a + b + carry
        found.append(Digit(a, b, carry, total % 10, total // 10))
        carry = total // 10
    return found


def carries(first: int, second: int) -> int:
    """Carries of an addition: the digits' sum loses 9 with each."""
    return (_sum(first) + _sum(second) - _sum(first + second)) // 9


def asked(question: str) -> Problem:
    """The problem of a question.

    Raises:
        ValueError: it is none.
    """
    two, one = _TWO.fullmatch(question), _ONE.fullmatch(question)
    if two:
        return Problem(_OF_SIGNS[two[2]], int(two[1]), int(two[3]))
    if one:
        return Problem(_NAMES[one[1]], round(float(one[2]) * DECIMALS))
    raise ValueError(f"{question!r} is no question")


def _sum(number: int) -> int:
    return sum(map(int, str(number)))
