"""Problems of arithmetic as text, and back.

plain                a+b=c
reverse              $a+b=c$, the digits of c from the last to the first
scratchpad           Input, Target, then a line a digit with its sum A and its carry C
detailed_scratchpad  the same with both numbers, what is added, and what there is so far
"""

from __future__ import annotations

import re

from graftwork.spec.arithmetic import Form
from graftwork_train.data.problems import Problem, asked, steps


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
    return asked(question), result


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
