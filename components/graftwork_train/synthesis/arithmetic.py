"""Problems of arithmetic whose format makes them easy to learn, or hard.

"Teaching Arithmetic to Small Transformers", arXiv:2307.03381, sections 3 to 6.

    plain      a+b=c      the first digit of c needs all carries before any is written
    reverse    $a+b=c$    last digit first: each digit needs what is there already
    scratchpad            every digit and carry is written before the result

    digits     all 100 problems of one digit; of d < D digits the share 9 / 10^(D-d+1); the rest
               has D, the digits of the longest
    carries    problems of 0, 1, ..., D carries at most 1/(D+1) of all, rounded up, each

Differs from the paper: scratchpads are for addition alone; each problem is a document of its own,
while the paper's stand in one stream; and which problems are for tests is decided by a hash of the
numbers, so that all formats, amounts and seeds are tested on what none of them has trained on.
Sine is taken of -1.5707 to 1.5707 and the square root of 0 to 10, rounded to four decimals.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator

import xxhash

from graftwork.errors import RunError
from graftwork.spec.arithmetic import OF_ONE_NUMBER, TEST_SHARE, Arithmetic
from graftwork_train.data.problems import Problem, carries
from graftwork_train.synthesis._formats import told, written
from graftwork_train.synthesis.base import Desk, Document, Documents, synthesize

# Draws in vain, in a row, before it is said that there are no more such problems.
_PATIENCE = 20_000


@synthesize.register
def arithmetic(method: Arithmetic, documents: Documents, desk: Desk) -> Iterator[Document]:
    """The problems, each a document, in an order drawn by the seed.

    Raises:
        RunError: there are too few problems of the kinds that are to be balanced.
    """
    chance = random.Random(f"{desk.seed} {method.part}")
    problems = _sample(method, chance)
    chance.shuffle(problems)
    for problem in problems:
        text = written(problem, method.format)
        known: dict[str, str] = {"style": method.format, "operation": method.operation}
        if method.operation == "add":
            known["steps"] = told(problem.first, problem.second)
        name = f"{method.operation}/{method.format}/{problem.question}"
        yield Document(name, text, "arithmetic", known)
    _report(method, problems, desk)


def is_test(problem: Problem) -> bool:
    """Whether a problem is for tests; those of two numbers of one digit never are."""
    if problem.operation not in OF_ONE_NUMBER and max(problem.first, problem.second) < 10:
        return False
    operation, first, second = problem
    mark = xxhash.xxh3_64_intdigest(f"{operation}\0{first}\0{second}".encode())
    return mark < TEST_SHARE * 2**64


def quotas(method: Arithmetic) -> dict[int, int]:
    """How many problems to draw by their digits; 0 stands for any."""
    if "digits" not in method.balance:
        return {0: method.problems}
    longest = method.digits
    found = {} if method.part == "test" else {1: 100}
    for digits in range(2, longest):
        found[digits] = round(method.problems * 9 / 10 ** (longest - digits + 1))
    return found | {longest: method.problems - sum(found.values())}


def _sample(method: Arithmetic, chance: random.Random) -> list[Problem]:
    found: dict[Problem, None] = {}
    kinds: Counter[int] = Counter()
    most = -(-method.problems // (method.digits + 1)) if "carries" in method.balance else None
    for digits, count in quotas(method).items():
        if digits == 1:
            taken = [Problem(method.operation, a, b) for a in range(10) for b in range(10)]
            found.update(dict.fromkeys(taken))
            kinds.update(carries(one.first, one.second) for one in taken)
            continue
        draw = _drawer(method, digits, chance)
        vain, wanted = 0, len(found) + count
        while len(found) < wanted:
            problem = draw()
            kind = carries(problem.first, problem.second) if most is not None else 0
            full = most is not None and kinds[kind] >= most
            if full or problem in found or is_test(problem) != (method.part == "test"):
                vain += 1
                if vain > _PATIENCE:
                    _give_up(method, len(found))
                continue
            found[problem] = None
            kinds[kind] += 1
            vain = 0
    return list(found)


def _drawer(method: Arithmetic, digits: int, chance: random.Random) -> Callable[[], Problem]:
    """Draws problems: the longer number has so many digits; with 0 there are at most the word's."""
    operation = method.operation
    if operation in OF_ONE_NUMBER:
        return lambda: Problem(operation, chance.randint(*OF_ONE_NUMBER[operation]))
    end = 10 ** (digits or method.digits)
    least = 10 ** (digits - 1) if digits else 0

    def draw() -> Problem:
        while True:
            pair = chance.randrange(end), chance.randrange(end)
            if max(pair) >= least:
                return Problem(operation, *pair)

    return draw


def _give_up(method: Arithmetic, found: int) -> None:
    raise RunError(
        f"only {found:,} of {method.problems:,} different problems were found that balance "
        f"{' and '.join(method.balance) or 'nothing'}",
        "Ask for fewer 'problems', for more 'digits', or leave 'balance' out.",
    )


def _report(method: Arithmetic, problems: list[Problem], desk: Desk) -> None:
    """How many problems there are of each length, and of each number of carries."""
    if method.operation in OF_ONE_NUMBER:
        return
    lengths = Counter(len(str(max(one.first, one.second))) for one in problems)
    tables = [("digits", lengths)]
    if method.operation == "add":
        tables.append(("carries", Counter(carries(one.first, one.second) for one in problems)))
    for name, counts in tables:
        rows = [
            [kind, count, f"{count / len(problems):.1%}"] for kind, count in sorted(counts.items())
        ]
        for kind, count in sorted(counts.items()):
            desk.metrics[f"{name}/{kind}"] = float(count)
        desk.tables.append(
            {"title": f"Problems by {name}", "columns": [name, "problems", "share"], "rows": rows}
        )
