"""Problems of arithmetic as text, and back.

plain                a+b=c
reverse              $a+b=c$, the digits of c from the last to the first
scratchpad           Input, Target, then a line a digit with its sum A and its carry C
detailed_scratchpad  the same with both numbers, what is added, and what there is so far
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from graftwork.spec.arithmetic import Form, Operation

DECIMALS = 10_000
_SIGNS: dict[Operation, str] = {"add": "+", "subtract": "-", "multiply": "*"}
_OF_SIGNS = {sign: operation for operation, sign in _SIGNS.items()}
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
        if self.operation in _SIGNS:
            return f"{self.first}{_SIGNS[self.operation]}{self.second}"
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


def written(problem: Problem, form: Form) -> str:
    """A problem with its result, and its steps where the format has them."""
    if form == "plain":
        return f"{problem.question}={problem.result}"
    if form == "reverse":
        return f"${problem.question}={problem.result[::-1]}$"
    body = _scratchpad if form == "scratchpad" else _detailed
    return f"Input:\n{problem.question}\nTarget:\n{body(problem.first, problem.second)}"


def read(text: str, form: Form) -> tuple[Problem, str]:
    """The problem of a text, and the result that it gives, right or wrong.

    Raises:
        ValueError: the text is none of this format.
    """
    if form in ("plain", "reverse"):
        whole = re.fullmatch(r"\$(.*)\$" if form == "reverse" else r"(.*)", text)
        question, equals, result = (whole[1] if whole else "").rpartition("=")
        result = result[::-1] if form == "reverse" else result
    else:
        whole = re.fullmatch(r"Input:\n(.*)\nTarget:\n(.*\n)?([\d ]+)\n", text, re.DOTALL)
        equals = "=" if whole else ""
        question, result = (whole[1], whole[3].replace(" ", "")) if whole else ("", "")
    if not equals or not result:
        raise ValueError(f"{text!r} is no problem in the format {form}")
    return _asked(question), result


def _asked(question: str) -> Problem:
    two, one = _TWO.fullmatch(question), _ONE.fullmatch(question)
    if two:
        return Problem(_OF_SIGNS[two[2]], int(two[1]), int(two[3]))
    if one:
        return Problem(_NAMES[one[1]], round(float(one[2]) * DECIMALS))
    raise ValueError(f"{question!r} is no question")


def told(first: int, second: int) -> str:
    """The steps of an addition, a line each."""
    return "\n".join(f"A->{step.digit} , C->{step.carried}" for step in steps(first, second))


def _scratchpad(first: int, second: int) -> str:
    return f"{told(first, second)}.\n{first + second}\n"


def _detailed(first: int, second: int) -> str:
    left, right = ([int(digit) for digit in str(number)] for number in (first, second))
    lines = ["<scratch>"]
    lines += [f"{_listed(digits)} has {len(digits)} digits." for digits in (left, right)]
    answer: list[int] = []
    carry = 0
    for step in steps(first, second):
        total = step.first + step.second + step.carry
        lines.append(
            f"{_listed(left)} + {_listed(right)} , A={_listed(answer)} , C={step.carry} , "
            f"{step.first}+{step.second}+{step.carry}={total} , A->{step.digit} , C->{step.carried}"
        )
        left, right, answer = left[:-1], right[:-1], [step.digit, *answer]
        carry = step.carried
    lines += [f"[] + [] , A={_listed(answer)} C={carry} , END", "</scratch>"]
    final = [carry, *answer] if carry else answer
    return "\n".join([*lines, " ".join(map(str, final))]) + "\n"


def _listed(digits: list[int]) -> str:
    return f"[{','.join(map(str, digits))}]"


def _sum(number: int) -> int:
    return sum(map(int, str(number)))
