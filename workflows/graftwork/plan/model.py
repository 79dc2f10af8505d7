"""What a plan is: steps in order, what each waits for, and what each will cost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from graftwork.spec.model import Architecture
from graftwork.spec.resources import Execution
from graftwork.step import Step


@dataclass(frozen=True, slots=True)
class Cost:
    """What a step costs, by arithmetic.

    Attributes:
        architecture: Of the model that the step makes or reads; None where there is none.
        parameters: Of that model, masked ones included.
        active_parameters: Those that one token meets.
        tokens: To train on; None where the budget is in epochs of data not prepared yet.
        flops: Of that training; None likewise.
        total_tokens: Of the step and all it is made from, each counted once; None likewise.
        total_flops: Likewise.
        memory: Bytes that one worker needs for training, by estimate; 0 where nothing is trained.
    """

    architecture: Architecture | None = None
    parameters: int = 0
    active_parameters: int = 0
    tokens: int | None = 0
    flops: float | None = 0.0
    total_tokens: int | None = 0
    total_flops: float | None = 0.0
    memory: int = 0


@dataclass(frozen=True, slots=True)
class Note:
    """A remark on a step: to know (`note`), to look into (`warning`), or what it costs (`cost`)."""

    step: str
    level: Literal["note", "warning", "cost"]
    text: str


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step, the names of the steps it waits for, and its cost."""

    step: Step
    after: tuple[str, ...]
    cost: Cost


@dataclass(frozen=True)
class Plan:
    """All that a workflow will do, in an order in which it can be done."""

    workflow: str
    title: str
    execution: Execution
    steps: tuple[PlannedStep, ...]
    notes: tuple[Note, ...] = ()

    def __getitem__(self, name: str) -> PlannedStep:
        """The step with this name.

        Raises:
            KeyError: there is none.
        """
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, PlannedStep]:
        return {planned.step.name: planned for planned in self.steps}
