"""Words for growing a dense model into a larger one."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from graftwork.spec.base import Contract, Method, Paper
from graftwork.spec.model import Architecture


class GStack(Method):
    """Stack a trained model on itself, block after block, in one hop."""

    paper: ClassVar[Paper] = Paper(
        "Stacking Your Transformers: A Closer Look at Model Growth for Efficient LLM Pre-Training",
        "2405.15319",
        "3",
        number="24",
    )
    contract: ClassVar[Contract] = "none"
    name: Literal["g_stack"]
    factor: int = Field(default=4, ge=2)
    """How many copies of the model's blocks to stack. The paper recommends 4."""

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        if self.factor > 16:
            raise ValueError(f"factor {self.factor} is beyond all that was tried; use 2 to 8")
        return self

    def target(self, source: Architecture) -> Architecture:
        """The architecture after growth."""
        if source.experts:
            raise ValueError("g_stack grows dense models; grow first, upcycle afterwards")
        return source.model_copy(update={"layers": source.layers * self.factor})


Growth = GStack
