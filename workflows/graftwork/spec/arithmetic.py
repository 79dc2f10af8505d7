"""The word for generated problems of arithmetic, and how many there are of each kind."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import AS_TUPLE, Paper
from graftwork.spec.maker import Maker

Operation = Literal["add", "subtract", "multiply", "sine", "sqrt"]
Form = Literal["plain", "reverse", "scratchpad", "detailed_scratchpad"]

OF_ONE_NUMBER: dict[Operation, tuple[int, int]] = {"sine": (-15_707, 15_707), "sqrt": (0, 100_000)}
"""Functions of one number: the smallest and the largest, in ten-thousandths."""
TEST_SHARE = 0.1
"""Share of all problems that are for tests, chosen by a hash; no training ever meets them."""
# What is asked for may be so much of what there is, or chance would search for the last ones.
_MOST = 0.5


class Arithmetic(Maker):
    """Write problems of arithmetic, one a document, in a format that spells out its steps or not.

    Problems of one digit are all trained on; of the others a tenth, the same whatever the format
    and the seed, is for tests: `part: test` writes those and no other.
    """

    paper: ClassVar[Paper] = Paper(
        "Teaching Arithmetic to Small Transformers", "2307.03381", "3", number="55"
    )
    reads: ClassVar[bool] = False
    writes: ClassVar[bool] = False
    name: Literal["arithmetic"]
    operation: Operation = "add"
    """What is calculated: of two whole numbers, or `sine` and `sqrt` of one with four decimals."""
    format: Form = "plain"
    """`plain` is `a+b=c`; `reverse` has the result's last digit first; `scratchpad` and
    `detailed_scratchpad` add digit by digit, with every carry, before the result."""
    digits: int = Field(default=3, ge=1, le=9)
    """Digits of the two numbers at most."""
    problems: int = Field(default=10_000, ge=1, le=10_000_000)
    """How many, each of them once."""
    balance: Annotated[tuple[Literal["digits", "carries"], ...], AS_TUPLE] = ()
    """Give short problems (`digits`) and every number of carries (`carries`) their share; the
    paper does both. Default: numbers as they come, most of them long."""
    part: Literal["train", "test"] = "train"
    """Problems to train on, or those that no training meets."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.format in ("scratchpad", "detailed_scratchpad") and self.operation != "add":
            raise ValueError(
                f"{self.format} spells out additions alone; write 'operation: add', or "
                f"'format: plain'"
            )
        if self.operation in OF_ONE_NUMBER and self.format == "reverse":
            raise ValueError(
                f"reverse turns whole numbers around, and {self.operation} has decimals; write "
                f"'format: plain'"
            )
        self._check_balance()
        for what, wanted, there in self._demands():
            if wanted > _MOST * there:
                raise ValueError(
                    f"{wanted:,} {what} are asked for, and there are about {int(there):,}; ask "
                    f"for fewer 'problems', half of what there is at most, or for more 'digits'"
                )
        return self

    def _check_balance(self) -> None:
        if "carries" in self.balance and self.operation != "add":
            raise ValueError(
                f"carries are of additions, and this is {self.operation}; leave 'carries' out of "
                f"'balance'"
            )
        if "digits" in self.balance:
            if self.operation in OF_ONE_NUMBER or self.digits == 1:
                raise ValueError(
                    "all these problems are equally long; leave 'digits' out of 'balance'"
                )
            if self.part == "train" and self.problems < 200:
                raise ValueError(
                    f"balanced digits take all 100 problems of one digit, and {self.problems} "
                    f"problems leave too few others; ask for 200 at least"
                )

    def _demands(self) -> list[tuple[str, int, float]]:
        """What is asked for, how much of it, and how much there is."""
        share = TEST_SHARE if self.part == "test" else 1 - TEST_SHARE
        if self.operation in OF_ONE_NUMBER:
            least, most = OF_ONE_NUMBER[self.operation]
            return [("problems", self.problems, share * (most - least + 1))]
        # Some of those of one digit are never asked for again; they do not matter here.
        found = [("problems", self.problems, share * 10 ** (2 * self.digits))]
        if "carries" in self.balance:
            each = -(-self.problems // (self.digits + 1))
            counts = carry_counts(self.digits)
            found += [
                (f"problems of {carries} carries", each, share * count)
                for carries, count in enumerate(counts)
            ]
        return found


def carry_counts(digits: int) -> list[int]:
    """How many pairs of numbers of at most so many digits have 0, 1, ... carries when added.

    Of the 100 pairs of digits 45 make a carry, and 55 where there is one already.
    """
    # By whether there is a carry now, how many pairs have had so many.
    ways = {False: [1] + [0] * digits, True: [0] * (digits + 1)}
    for _ in range(digits):
        made = [45 * no + 55 * yes for no, yes in zip(ways[False], ways[True], strict=True)]
        none = [55 * no + 45 * yes for no, yes in zip(ways[False], ways[True], strict=True)]
        ways = {False: none, True: [0, *made[:-1]]}
    return [no + yes for no, yes in zip(ways[False], ways[True], strict=True)]
